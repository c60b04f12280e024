"""For tests that let imgconv and the genuine qemu-img 10.0.2 do the same: where the two are.

    arguments = argument_parser(__doc__).parse_args()
    with both_programs(arguments.imgconv) as programs:
        ...

Not a test by itself.
"""
import argparse
import contextlib
import os
import sys
import tempfile


def argument_parser(description):
    """With the argument that all of them have."""
    parser = argparse.ArgumentParser(description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgconv", required=True)
    return parser


@contextlib.contextmanager
def both_programs(imgconv):
    """{"ours": PATH, "genuine": PATH}, both named qemu-img, so that they speak alike. The current
    directory is a fresh one meanwhile. Exits with status 77 when the genuine tools are not there."""
    imgconv = os.path.abspath(imgconv)
    genuine = os.environ.get("IMGCONV_QEMU_IMG10", "")
    if not os.access(genuine, os.X_OK):
        print("needs qemu-img 10.0.2 in $IMGCONV_QEMU_IMG10, and qemu-io beside it: skipped")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.symlink(imgconv, "qemu-img")
        try:
            yield {"ours": os.path.join(folder, "qemu-img"), "genuine": genuine}
        finally:
            os.chdir("/")
