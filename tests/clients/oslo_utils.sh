# oslo.utils, by which nova, glance and cinder read what `qemu-img info` says; as JSON they ask for it, as
# text they did before.
python=/usr/bin/python3
$python -c 'import oslo_utils.imageutils' 2>/dev/null || { echo "python3-oslo.utils is not installed"; exit 77; }
qemu-img create -q -f raw base.raw 64M
qemu-img create -q -f qcow2 -b base.raw -F raw disk.qcow2
qemu-img snapshot -c first disk.qcow2
qemu-img info --output=json disk.qcow2 >info.json
qemu-img info disk.qcow2 >info.txt
$python - <<'END'
import warnings
from oslo_utils import imageutils
warnings.simplefilter("ignore")
for form, name in (("json", "info.json"), ("human", "info.txt")):
    with open(name) as file:
        info = imageutils.QemuImgInfo(file.read(), format=form)
    assert info.file_format == "qcow2", (form, info.file_format)
    assert info.virtual_size == 64 << 20, (form, info.virtual_size)
    assert info.cluster_size == 65536, (form, info.cluster_size)
    assert info.backing_file == "base.raw", (form, info.backing_file)
    assert 0 < info.disk_size < 1 << 20, (form, info.disk_size)
    # Its parser of the text wants the rows of a table that qemu-img has not printed for long.
    assert form == "human" or len(info.snapshots) == 1, (form, info.snapshots)
    assert not info.encrypted, (form, info.encrypted)
END
