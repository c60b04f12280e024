"""Names of images that are descriptions of nodes: json:{...} and option strings (CLI.md 1.4), drawn
at random. Used by command_lines.py.

A description is a nested dict. Most open the image that was asked for, some of its layers in other
words; a few are wrong on purpose.
"""
import json

FORMATS = {"r.raw": "raw", "odd.raw": "raw", "new": "raw"}


class Draw:
    """The random numbers of one description. At most one thing in it is wrong: of several, it is a
    matter of the order of opening which one is told."""

    def __init__(self, rng):
        self.rng = rng
        self.random, self.choice = rng.random, rng.choice
        self.may_be_wrong = rng.random() < 0.35
        self.nodes = rng.randrange(1000000)

    def wrong(self, share):
        if not self.may_be_wrong or self.rng.random() >= share:
            return False
        self.may_be_wrong = False
        return True

    def mostly(self, good, others, share=0.2):
        return self.choice(others) if self.wrong(share) else self.choice(good)

    def node_name(self):
        self.nodes += 1
        return f"n{self.nodes}"


def switch(draw):
    """What is on or off, as JSON has it and as texts say it."""
    return draw.mostly((True, False, "on", "off", "yes", None), ("maybe", 1, ""))


def size(draw):
    return draw.mostly((0, 512, 4096, 65536, 262144, "64k", "4096", "0x1000"), ("1X", -1, 1 << 62, 1.5, "9E", "", 1000))


def with_options(draw, node, choices):
    """Up to two of the options, each a name and how its value is drawn."""
    for name, value in draw.rng.sample(choices, draw.choice((0, 0, 0, 1, 1, 2))):
        node[name] = value(draw)
    if draw.wrong(0.1):
        node["bogus"] = draw.choice((1, "x"))
    return node


OF_ANY = [
    ("read-only", lambda draw: draw.mostly((False, "off"), (True, "on", "maybe"))),
    ("force-share", lambda draw: draw.mostly((False, "off"), (True, "on", "maybe"))),
    ("auto-read-only", switch),
    ("node-name", lambda draw: "0bad" if draw.wrong(0.2) else draw.node_name()),
    ("cache", lambda draw: {draw.choice(("direct", "no-flush", "direct")): switch(draw)}),
    ("discard", lambda draw: draw.mostly(("unmap", "ignore", "on", "off"), ("maybe", 1, ""))),
    ("detect-zeroes", lambda draw: draw.mostly(("on", "off"), ("maybe", "unmap", 1))),
]
OF_A_FILE = OF_ANY + [
    ("locking", lambda draw: draw.mostly(("on", "off", "auto"), ("maybe", 1))),
    ("aio", lambda draw: draw.mostly(("threads", "io_uring"), ("x", "native", 1))),
    ("drop-cache", switch), ("x-check-cache-dropped", switch),
    ("aio-max-batch", lambda draw: draw.mostly((0, 8, "32"), ("64k", -1, "x"))),
]
OF_RAW = OF_ANY + [("offset", size), ("size", size), ("offset", lambda _: 0)]
# Below a format, where a part that ends early would be a damaged image.
OF_RAW_BELOW = OF_ANY + [("offset", lambda _: 0), ("size", lambda draw: draw.mostly((None,), ("1X", -1, 1 << 62), 0.3))]
OF_QCOW2 = OF_ANY + [
    ("lazy-refcounts", switch), ("l2-cache-size", size), ("cache-size", size), ("refcount-cache-size", size),
    ("l2-cache-entry-size", lambda draw: draw.mostly((512, 4096, "4k"), (1000, "1X", 0, 1 << 20))),
    ("cache-clean-interval", lambda draw: draw.mostly((0, 1, 600), ("x", -1, 1 << 40))),
    ("overlap-check", lambda draw: draw.mostly(("none", "all", "constant", "cached"), ("x", 1))),
    ("overlap-check.template", lambda draw: draw.mostly(("none", "all"), ("x",))),
    ("overlap-check.main-header", switch),
    ("pass-discard-request", switch), ("pass-discard-other", switch), ("discard-no-unref", switch),
]


def file_node(draw, path, depth=0):
    if depth < 2 and draw.random() < 0.12:
        node = {"driver": "raw", "file": file_node(draw, path, depth + 1)}
        return with_options(draw, node, OF_RAW_BELOW)
    node = {"driver": "file", "filename": draw.mostly((path,), ("", "nothere", None), 0.05)}
    if draw.random() < 0.3:
        del node["driver"]
    elif draw.wrong(0.05):
        node["driver"] = draw.choice(("nope", "qcow2"))
    if draw.wrong(0.03):
        del node["filename"]
    return with_options(draw, node, OF_A_FILE)


def in_a_part(path, node):
    """The image within the larger file that holds it."""
    if path == "q.qcow2":
        node["file"] = {"driver": "raw", "offset": 4096, "file": {"driver": "file", "filename": "part.bin"}}


def node(draw, path, depth=0):
    """Of the image of this name, or of what the wrong words make of it."""
    kind = FORMATS.get(path, "qcow2")
    made = {"driver": draw.mostly((kind,), ("raw", "qcow2", "file", "nope", None), 0.15),
            "file": file_node(draw, path, 2 if depth else 0)}
    if draw.wrong(0.05):
        del made["driver"]
    if draw.wrong(0.05):
        made["file"] = draw.choice((path, None, "nope"))
    if draw.random() < 0.06 and depth == 0:
        in_a_part(path, made)
    if draw.random() < 0.05:
        return with_options(draw, file_node(draw, path), OF_A_FILE)
    with_options(draw, made, OF_QCOW2 if kind == "qcow2" else OF_RAW)
    if kind == "qcow2" and depth < 2 and draw.random() < 0.15:
        made["backing"] = draw.choice((
            None, "", {"file": {"filename": "r.raw"}},
            node(draw, draw.choice(("q.qcow2", "r.raw", "c.qcow2")), depth + 1)))
    if draw.wrong(0.1):
        made["backing"] = draw.choice(("nope", {"driver": "raw"}, {"driver": "nope"},
                                       {"driver": "raw", "file": {"filename": "nothere"}}))
    if path == "d.qcow2" and draw.random() < 0.5 or draw.wrong(0.05):
        made["data-file"] = file_node(draw, "d.raw")
    return made


def flat(made, prefix=""):
    """The same as pairs of dotted keys and texts; null has no text form."""
    pairs = []
    for key, value in made.items():
        if isinstance(value, dict):
            pairs += flat(value, f"{prefix}{key}.")
        elif value is not None:
            text = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
            pairs.append((prefix + key, str(text)))
    return pairs


def half_flat(rng, made):
    """JSON with some of its groups as dotted keys, which means the same."""
    result = {}
    for key, value in made.items():
        if not isinstance(value, dict):
            result[key] = value
        elif rng.random() < 0.25:
            result.update(("" + key + "." + inner, deeper) for inner, deeper in half_flat(rng, value).items())
        else:
            result[key] = half_flat(rng, value)
    return result


def json_name(rng, path):
    text = json.dumps(half_flat(rng, node(Draw(rng), path)))
    if rng.random() < 0.3 and '\\' not in text:
        text = text.replace('"', "'")
    if rng.random() < 0.03:
        text = rng.choice((text[:-1], text + "x", "", "[1]", "{}", text[1:], text.replace(":", ",", 1)))
    return "json:" + text


def option_string(rng, path):
    pairs = flat(node(Draw(rng), path))
    if rng.random() < 0.1:
        rng.shuffle(pairs)
    text = ",".join(f"{key}={value}".replace(",", ",,") for key, value in pairs)
    if rng.random() < 0.04:
        text = rng.choice((path, text + ",", text + ",read-only", "," + text, text.replace("=", "", 1), ""))
    return text
