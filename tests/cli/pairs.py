#!/usr/bin/env python3
"""Converts every kind of source into every kind of target and lets the genuine tools judge.

    tests/cli/pairs.py --imgconv build/imgconv [--corpus DIR] [--work DIR]

Without --corpus the sources are small ones made here (this is what the test suite runs); with it
they are the 8 GiB cloud disk of images/corpus.sh in all its forms. For each pair `qemu-img compare`
must call source and target identical, and `qemu-img check` of every version found must call each
qcow2 target clean. $IMGCONV_QEMU_IMG10 names the second qemu-img. Exit status 77: no qemu-img.
"""
import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile

TARGETS = {
    "raw": ["-O", "raw"],
    "qcow2": ["-O", "qcow2"],
    "qcow2 -c": ["-O", "qcow2", "-c"],
    "qcow2 -c 4k": ["-O", "qcow2", "-c", "-o", "cluster_size=4k"],
    "qcow2 -c 2M": ["-O", "qcow2", "-c", "-o", "cluster_size=2M"],
    "qcow2 -c zstd": ["-O", "qcow2", "-c", "-o", "compression_type=zstd"],
}
LARGE = {
    "raw": "cloud.raw", "qcow2": "cloud.qcow2", "qcow2 zlib": "cloud-zlib.qcow2",
    "qcow2 zstd": "cloud-zstd.qcow2", "qcow2 extended L2": "cloud-extl2.qcow2",
    "qcow2 2 MiB clusters": "cloud-2m.qcow2", "qcow2 512 B clusters": "cloud-512.qcow2",
    "3-deep chain": "chain3.qcow2", "fragmented": "cloud-frag.qcow2",
}


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def must(*command, **options):
    result = run(*command, **options)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {result.returncode}\n{result.stderr}")
    return result


def make_small(qemu_img, qemu_io, folder):
    """The same forms as the large corpus, of a 24 MiB disk with text, noise and holes."""
    rng = random.Random(20240229)
    raw = os.path.join(folder, "disk.raw")
    with open(raw, "wb") as disk:
        disk.truncate(24 << 20)
        for _ in range(40):
            disk.seek(rng.randrange(0, 23 << 20, 512))
            length = rng.choice([512, 4096, 20000, 65536, 300000])
            disk.write(rng.randbytes(length) if rng.random() < 0.4 else
                       (b"a line of text that compresses, number %d\n" % rng.randrange(99)) * (length // 40))
        disk.truncate(24 << 20)

    def convert(name, *flags):
        path = os.path.join(folder, name)
        must(qemu_img, "convert", "-f", "raw", "-O", "qcow2", *flags, raw, path)
        return path

    images = {
        "raw": raw,
        "qcow2": convert("plain.qcow2"),
        "qcow2 zlib": convert("zlib.qcow2", "-c"),
        "qcow2 zstd": convert("zstd.qcow2", "-c", "-o", "compression_type=zstd"),
        "qcow2 extended L2": convert("extl2.qcow2", "-o", "extended_l2=on,cluster_size=128k"),
        "qcow2 2 MiB clusters": convert("2m.qcow2", "-o", "cluster_size=2M"),
        "qcow2 512 B clusters": convert("512.qcow2", "-o", "cluster_size=512"),
    }
    below = "plain.qcow2"
    for depth in range(1, 4):
        overlay = os.path.join(folder, f"overlay{depth}.qcow2")
        must(qemu_img, "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", below, overlay)
        writes = []
        for _ in range(12):
            offset = rng.randrange(0, 23 << 20, 4096)
            kind = rng.choice([f"write -P {rng.randrange(1, 256)}", "write -z"])
            writes += ["-c", f"{kind} {offset} {rng.choice([4096, 40960, 131072])}"]
        must(qemu_io, "-f", "qcow2", *writes, overlay)
        below = os.path.basename(overlay)
    images["3-deep chain"] = os.path.join(folder, below)
    fragmented = os.path.join(folder, "frag.qcow2")
    must(qemu_img, "create", "-q", "-f", "qcow2", fragmented, "24M")
    clusters = list(range(0, 24 << 20, 65536))
    rng.shuffle(clusters)
    writes = [word for offset in clusters[:200] for word in ("-c", f"write -P {offset >> 16 & 255 or 1} {offset} 65536")]
    must(qemu_io, "-f", "qcow2", *writes, fragmented)
    images["fragmented"] = fragmented
    return images


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    parser.add_argument("--corpus")
    parser.add_argument("--work", help="where targets go (default: the temporary folder)")
    arguments = parser.parse_args()

    judges = [tool for tool in (shutil.which("qemu-img"), os.environ.get("IMGCONV_QEMU_IMG10"))
              if tool]
    if not judges:
        print("no qemu-img found: skipped")
        sys.exit(77)
    judge = judges[-1]
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        if arguments.corpus:
            sources = {name: os.path.join(arguments.corpus, file) for name, file in LARGE.items()}
        else:
            qemu_io = os.path.join(os.path.dirname(judge), "qemu-io")
            sources = make_small(judge, qemu_io, folder)
        failures = 0
        for source_kind, source in sources.items():
            for target_kind, flags in TARGETS.items():
                target = os.path.join(folder, "target")
                problems = []
                converted = run(arguments.imgconv, "convert", *flags, source, target)
                if converted.returncode != 0:
                    problems.append(converted.stderr)
                else:
                    for tool in judges if "-c" in flags else [judge]:
                        compared = run(tool, "compare", source, target)
                        if compared.returncode != 0:
                            problems.append(f"{tool}: {compared.stdout}{compared.stderr}")
                    for tool in judges if "qcow2" in target_kind else []:
                        checked = run(tool, "check", "-f", "qcow2", target)
                        if checked.returncode != 0:
                            problems.append(f"{tool}: {checked.stdout[-2000:]}{checked.stderr[-2000:]}")
                failures += bool(problems)
                print(f"{'FAILED' if problems else 'ok'}: {source_kind} -> {target_kind}",
                      *problems, sep="\n  ", flush=True)
                if os.path.exists(target):
                    os.unlink(target)
        total = len(sources) * len(TARGETS)
        print(f"{total - failures} of {total} pairs identical and clean")
        sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
