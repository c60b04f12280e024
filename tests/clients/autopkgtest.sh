# autopkgtest builds images of virtual machines with vmdb2 (which needs a mirror: here a stand-in makes
# the raw disk), enlarges and compresses those of Ubuntu, and runs tests on an overlay of the image.
# Its package is Debian's; one that is only unpacked (dpkg -x) is found in $IMGCONV_CLIENTS_ROOT.
root=${IMGCONV_CLIENTS_ROOT:-}
export PYTHONPATH=$root/usr/lib/python3/dist-packages
share=$root/usr/share/autopkgtest/lib
[ -e "$share/autopkgtest_qemu.py" ] || { echo "autopkgtest is not installed"; exit 77; }
mkdir programs
cat >programs/vmdb2 <<'END'
#!/bin/sh
for word; do case $word in --image=*) output=${word#--image=} ;; esac; done
yes disk | head -c 3000000 >"$output"
truncate -s 16M "$output"
END
chmod +x programs/vmdb2
PATH=$PWD/programs:$PATH "$root/usr/bin/autopkgtest-build-qemu" --boot=bios bookworm "$PWD/built.img"
[ ! -e built.img.raw ] && [ ! -e built.img.new ]
[ "$(head -c 4 built.img | od -An -c | tr -d ' ')" = 'QFI373' ]

cat >drive.py <<'END'
import ast, os, shutil, subprocess, sys, time, types
share, script = sys.argv[1:]
sys.path.insert(0, share)
sys.dont_write_bytecode = True
import autopkgtest_qemu
image = autopkgtest_qemu.QemuImage("built.img")
assert image.format == "qcow2", image.format
qemu = types.SimpleNamespace(overlay_dir=None, workdir=os.getcwd())
overlay = autopkgtest_qemu.Qemu.prepare_overlay(qemu, image)
assert autopkgtest_qemu.QemuImage(overlay).format == "qcow2"
# The program begins its work when it is imported: its functions alone.
with open(script, encoding="utf-8") as source:
    tree = ast.parse(source.read())
tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)
             and node.name in ("resize_image", "install_image")]
exec(compile(tree, script, "exec"))
resize_image("built.img", "16M")
install_image("built.img", "final.img", compress=True)
END
python3 drive.py "$share" "$root/usr/bin/autopkgtest-buildvm-ubuntu-cloud" | tr '\r' '\n' | grep -qx ' *(100.00/100%)'
yes disk | head -c 3000000 >want.raw
truncate -s 32M want.raw
qemu-nbd -r -f qcow2 -k "$PWD/socket" final.img &
until [ -S socket ]; do kill -0 $!; done
nbdcopy "nbd+unix:///?socket=$PWD/socket" got.raw
cmp want.raw got.raw
[ "$(stat -c %s final.img)" -lt 1000000 ]
