# uvtool downloads a compressed image into a temporary file and has it converted into another, which
# it has open meanwhile: what goes into libvirt's pool is read through that descriptor, so the target
# must be filled where it is. An instance is an overlay of the pool's volume. No release of Debian
# has uvtool since 11; this does what its Python code does, with a folder for the pool.
python3 - <<END
import os, random, shutil, subprocess, tempfile

random.seed(1)
content = random.randbytes(300000) + bytes(5 << 20) + b"end" * 1000
with open("cloud.raw", "wb") as raw:
    raw.write(content + bytes(-len(content) % 512))
subprocess.check_call(["qemu-img", "convert", "-c", "-O", "qcow2", "cloud.raw", "cloud.img"])
downloaded, converted = tempfile.NamedTemporaryFile(dir="."), tempfile.NamedTemporaryFile(dir=".")
with open("cloud.img", "rb") as image:
    shutil.copyfileobj(image, downloaded)
downloaded.flush()
inode = os.fstat(converted.fileno()).st_ino
subprocess.check_call(["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", downloaded.name, converted.name],
                      close_fds=False)
assert os.stat(converted.name).st_ino == inode
converted.seek(0)
size = os.fstat(converted.fileno()).st_size
with open("volume", "wb") as volume:
    shutil.copyfileobj(converted, volume)
assert os.path.getsize("volume") == size > 300000
subprocess.check_call(["qemu-img", "create", "-f", "qcow2", "-b", "volume", "-F", "qcow2", "instance", "8G"])
END
qemu-io -f qcow2 -c 'read -P 0 1M 1M' -c 'read -P 0 7G 1M' instance | grep -c 'read 1048576/1048576' | grep -qx 2
qemu-nbd -r -f qcow2 -k "$PWD/socket" volume &
until [ -S socket ]; do kill -0 $!; done
nbdcopy "nbd+unix:///?socket=$PWD/socket" volume.raw
cmp cloud.raw volume.raw
