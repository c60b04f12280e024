"""Command lines of qemu-img, drawn from its grammar (CLI.md section 14). Used by command_lines.py.

A value is a function of the random numbers. Most are sensible, since a line that is refused at once
tests little; some are not, since what is refused, and with which words, is part of the contract.
"""
import shlex

import command_nodes


def one_of(*values):
    return lambda rng: rng.choice(values)


def mostly(good, *others):
    return lambda rng: good(rng) if rng.random() < 0.9 else rng.choice(others)


def some(*pieces):
    """One to three of the pieces, comma separated."""
    return lambda rng: ",".join(rng.sample(pieces, rng.randint(1, min(3, len(pieces)))))


IMAGE = one_of("r.raw", "q.qcow2", "q.qcow2", "o.qcow2", "o.qcow2", "s.qcow2", "s.qcow2", "c.qcow2",
               "v2.qcow2", "odd.raw", "lost.qcow2", "nothere")
QCOW2 = mostly(one_of("q.qcow2", "o.qcow2", "s.qcow2", "c.qcow2", "v2.qcow2"), "r.raw", "lost.qcow2",
               "nothere")
TARGET = one_of("new", "new", "new", "r.raw", "q.qcow2", "sub/new", "./new", "file:new", "s.qcow2")
FORMAT = mostly(one_of("raw", "qcow2", "qcow2"), "nope", "file")
CACHE = mostly(one_of("none", "off", "writeback", "writethrough", "directsync", "unsafe"), "foo")
SIZE = mostly(one_of("0", "512", "1000", "4k", "64K", "0x10000", "1.5M", "1M", "2M", "100000"), "1X",
              "-1", "8E", "", "1kB", "k", "1.5")
SMALL = mostly(one_of("0", "512", "4096", "8k", "64k", "100k"), "1X", "-5", "9E")
OUTPUT = mostly(one_of("human", "json"), "xml")
SNAPSHOT = one_of("one", "two", "1", "2", "nope", "snapshot.name=one", "snapshot.id=1,snapshot.name=one",
                  "snapshot.foo=1")
CREATION = mostly(some("cluster_size=4k", "cluster_size=64k", "cluster_size=512", "compat=0.10", "compat=v3",
                       "lazy_refcounts=on", "refcount_bits=1", "refcount_bits=64", "extended_l2=on",
                       "preallocation=off", "preallocation=metadata", "preallocation=falloc",
                       "compression_type=zstd", "compression_type=zlib", "lazy_refcounts", "nocow=off"),
                  "foo=1", "cluster_size=3", "lazy_refcounts=maybe", "refcount_bits=3", ",", "preallocation=x",
                  "compat=9", "size=1X", "extended_l2=on,cluster_size=4k")
AMENDMENT = mostly(some("size=1M", "size=256k", "lazy_refcounts=on", "lazy_refcounts=off", "compat=0.10",
                        "compat=1.1", "refcount_bits=8", "refcount_bits=16", "refcount_bits=64"),
                   "cluster_size=4k", "foo=1", "backing_file=x", "compat=9", "data_file=x", "refcount_bits=3")
BACKING = mostly(one_of("q.qcow2", "r.raw", "o.qcow2"), "nothere", "")
OBJECT = mostly(one_of("secret,id=s,data=x", "secret,id=s,data=eA==,format=base64", "secret,id=s,file=r.raw",
                       "qom-type=secret,id=s,data=x", '{"qom-type": "secret", "id": "s", "data": "x"}'),
                "foo,id=x", "secret,id=s", "secret,id=s,data=x,file=r.raw", "secret,id=1,data=x", "secret,data=x",
                "secret,id=s,file=nothere", "secret,id=s,data=x,format=y", "secret,id=s,data=x,bogus=1",
                "secret,id=s,data=!,format=base64", '{"qom-type": "secret"', '{"qom-type": "secret", "id": 1}')
MODE = mostly(one_of("off", "metadata", "falloc", "full"), "foo")
NUMBER = mostly(one_of("1", "4", "8", "16"), "0", "17", "x", "")

# Of a command: options as (spellings, value or None, how often), operands, how often with image-opts.
COMMON = [(["--object"], OBJECT, 0.03)]
SHARE = [(["-U", "--force-share"], None, 0.1)]
FMT = [(["-f", "--format"], FORMAT, 0.4)]
SHORT_FMT = [(["-f"], FORMAT, 0.4)]
GRAMMAR = {
    "amend": (COMMON + SHORT_FMT + [(["-o"], AMENDMENT, 0.95), (["-t"], CACHE, 0.15), (["-q"], None, 0.1),
                                    (["-p"], None, 0.1), (["--force"], None, 0.05)], [QCOW2]),
    "bitmap": (COMMON + SHORT_FMT + [(["--add"], None, 0.4), (["--remove"], None, 0.15), (["--clear"], None, 0.15),
                                     (["--enable"], None, 0.15), (["--disable"], None, 0.15),
                                     (["--merge"], one_of("b0", "b1", "nope"), 0.15),
                                     (["-g", "--granularity"], mostly(one_of("512", "4k", "64k"), "3", "1X"), 0.2),
                                     (["-b", "--source-file"], IMAGE, 0.05), (["-F", "--source-format"], FORMAT, 0.05)],
               [QCOW2, one_of("b0", "b1", "b2", "nope")]),
    "check": (COMMON + SHARE + FMT + [(["-r", "--repair"], mostly(one_of("leaks", "all"), "foo"), 0.3),
                                      (["--output"], OUTPUT, 0.3), (["-T"], CACHE, 0.1), (["-q"], None, 0.1)],
              [IMAGE]),
    "commit": (COMMON + SHORT_FMT + [(["-t"], CACHE, 0.1), (["-b"], BACKING, 0.2), (["-d"], None, 0.3),
                                     (["-q"], None, 0.2), (["-r"], mostly(SMALL, "1G"), 0.02)],
               [one_of("o.qcow2", "o.qcow2", "q.qcow2", "s.qcow2", "nothere", "r.raw")]),
    "compare": (COMMON + SHARE + SHORT_FMT + [(["-F"], FORMAT, 0.4), (["-T"], CACHE, 0.1), (["-q"], None, 0.1),
                                              (["-s"], None, 0.3)], [IMAGE, IMAGE]),
    "convert": (COMMON + SHARE + SHORT_FMT + [
        (["-O"], FORMAT, 0.7), (["-c"], None, 0.15), (["-q"], None, 0.1), (["-n"], None, 0.15),
        (["-o"], CREATION, 0.3), (["-B"], BACKING, 0.07), (["-F"], FORMAT, 0.07), (["-l"], SNAPSHOT, 0.1),
        (["-S"], mostly(one_of("0", "512", "4k", "64k"), "1000", "1X", "32M"), 0.2), (["-m"], NUMBER, 0.1),
        (["-W"], None, 0.1), (["-C"], None, 0.05), (["-t"], CACHE, 0.1), (["-T"], CACHE, 0.1),
        (["-r"], mostly(one_of("1G", "100M"), "x"), 0.05), (["--salvage"], None, 0.1),
        (["--bitmaps"], None, 0.1), (["--skip-broken-bitmaps"], None, 0.03), (["--target-is-zero"], None, 0.05)],
                [IMAGE, TARGET]),
    "create": (COMMON + SHORT_FMT + [(["-b"], BACKING, 0.2), (["-F"], FORMAT, 0.25), (["-u"], None, 0.1),
                                     (["-o"], CREATION, 0.4), (["-q"], None, 0.2)], [TARGET, SIZE]),
    "dd": (SHARE + SHORT_FMT + [(["-O"], FORMAT, 0.5)],
           [lambda rng: "if=" + IMAGE(rng), lambda rng: "of=" + TARGET(rng),
            mostly(one_of("bs=512", "bs=4096", "bs=1000", "bs=64k"), "bs=0", "bs=x"),
            mostly(one_of("count=1", "count=10", "count=100000"), "count=x"),
            mostly(one_of("skip=0", "skip=1", "skip=1000000"), "foo", "skip=x")]),
    "info": (COMMON + SHARE + FMT + [(["--output"], OUTPUT, 0.4), (["--backing-chain"], None, 0.2)], [IMAGE]),
    "map": (COMMON + SHARE + FMT + [(["--output"], OUTPUT, 0.4), (["-s", "--start-offset"], SMALL, 0.2),
                                    (["-l", "--max-length"], SMALL, 0.2)], [IMAGE]),
    "measure": (COMMON + SHARE + SHORT_FMT + [(["-O"], FORMAT, 0.6), (["-o"], CREATION, 0.3), (["--output"], OUTPUT, 0.3),
                                              (["-l"], SNAPSHOT, 0.1), (["--size"], SIZE, 0.05)], [IMAGE]),
    "rebase": (COMMON + SHARE + SHORT_FMT + [(["-b"], BACKING, 0.9), (["-F"], FORMAT, 0.7), (["-u"], None, 0.3),
                                             (["-c", "--compress"], None, 0.1), (["-t"], CACHE, 0.1),
                                             (["-T"], CACHE, 0.1), (["-q"], None, 0.1)],
               [one_of("o.qcow2", "o.qcow2", "o.qcow2", "s.qcow2", "lost.qcow2", "r.raw", "nothere")]),
    "resize": (COMMON + SHORT_FMT + [(["--preallocation"], MODE, 0.15), (["--shrink"], None, 0.4), (["-q"], None, 0.1)],
               [IMAGE, mostly(one_of("+64k", "-4k", "1M", "128k", "64k", "1000", "+0", "300000"), "1X", "-8M", "0")]),
    "snapshot": (COMMON + SHARE + [(["-l"], None, 0.3), (["-a"], SNAPSHOT, 0.2), (["-c"], one_of("one", "new"), 0.2),
                                   (["-d"], SNAPSHOT, 0.2), (["-q"], None, 0.1)], [QCOW2]),
}


def with_value(rng, spelling, value):
    if spelling.startswith("--"):
        return [f"{spelling}={value}"] if rng.random() < 0.5 else [spelling, value]
    return [spelling + value] if value and rng.random() < 0.3 else [spelling, value]


def shortened(rng, spelling):
    """A prefix of a long option, which may be ambiguous."""
    if not spelling.startswith("--") or rng.random() < 0.9:
        return spelling
    return spelling[:rng.randint(min(6, len(spelling)), len(spelling))]


def operands(rng, command, sources):
    if command == "dd":
        kept = [source(rng) for source in sources[:2]]
        return kept + [source(rng) for source in sources[2:] if rng.random() < 0.4]
    words = [source(rng) for source in sources]
    if command == "convert" and rng.random() < 0.07:
        words.insert(0, IMAGE(rng))
    if command == "create" and rng.random() < 0.15:
        words.pop()
    if rng.random() < 0.03:
        words = words[:-1] if rng.random() < 0.5 else words + ["extra"]
    return words


# What names an image; targets that are paths to folders stay as they are.
NAMES = {"r.raw", "q.qcow2", "o.qcow2", "s.qcow2", "c.qcow2", "v2.qcow2", "odd.raw", "lost.qcow2", "nothere", "new"}


def described(rng, names, describe):
    """The operands, with names of images in other words."""
    result = []
    for name in names:
        prefix = name[:3] if name.startswith(("if=", "of=")) else ""
        path = name[len(prefix):]
        if path in NAMES and rng.random() < 0.9:
            # Nothing else has a data file.
            path = "d.qcow2" if path == "c.qcow2" and rng.random() < 0.5 else path
            name = prefix + describe(rng, path)
        result.append(name)
    return result


def with_nodes(rng, command, groups, names):
    """Names some of a line's images by their nodes."""
    if rng.random() < 0.4:
        return described(rng, names, command_nodes.json_name)
    if command == "convert" and rng.random() < 0.5:
        groups.append(["--target-image-opts"])
        groups += [["-n"]] if ["-n"] not in groups and rng.random() < 0.95 else []
        sources = names[:-1]
        if rng.random() < 0.5:
            groups.append(["--image-opts"])
            sources = described(rng, sources, command_nodes.option_string)
        return sources + described(rng, names[-1:], command_nodes.option_string)
    groups.append(["--image-opts"])
    if rng.random() < 0.9:
        # A format beside it is refused, which is enough to see now and then.
        groups[:] = [group for group in groups if not group[0].startswith(("-f", "--fo", "-F"))]
    names = list(names)
    last = -1 if command in ("convert", "create") else len(names)
    return described(rng, names[:last], command_nodes.option_string) + names[last:]


def line(rng, only=None, nodes=0.0):
    """`nodes`: how often images are named by descriptions of their nodes."""
    command = only or rng.choice(list(GRAMMAR))
    options, sources = GRAMMAR[command]
    groups = []
    for spellings, value, often in options:
        if rng.random() >= often:
            continue
        spelling = shortened(rng, rng.choice(spellings))
        groups.append([spelling] if value is None else with_value(rng, spelling, value(rng)))
    if rng.random() < 0.02:
        groups.append([rng.choice(("-Z", "--bogus", "--", "-h"))])
    names = operands(rng, command, sources)
    if rng.random() < nodes:
        names = with_nodes(rng, command, groups, names)
    rng.shuffle(groups)
    words = [command]
    permuted = rng.random() < 0.2 and command != "resize"
    while groups or names:
        take_name = names and (not groups or (permuted and rng.random() < 0.5))
        words += [names.pop(0)] if take_name else groups.pop(0)
    return words


def quoted(words):
    return " ".join(shlex.quote(word) for word in words)
