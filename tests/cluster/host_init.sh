#!/bin/bash
# Process 1 of a pretended host: makes the root file system, waits for the cable, and becomes sshd.
# Started by hosts.py inside new network, process, mount, ipc and host-name spaces, with HOST_* in the environment:
#   HOST_NAME HOST_ADDRESS HOST_FOLDER (mount points) HOST_LAN (key, names, shared folder)
#   HOST_READ_ONLY HOST_HIDDEN_FOLDERS HOST_HIDDEN_FILES (lists separated by ':') HOST_PROJECT_ENVIRONMENT HOST_KEY
set -euo pipefail
root=$HOST_FOLDER/root
mkdir -p "$root" "$HOST_FOLDER/upper"
home=$root$(getent passwd 0 | cut -d: -f6)

hostname "$HOST_NAME"
mount -t tmpfs -o size=1g,mode=755 tmpfs "$HOST_FOLDER/upper"
mkdir "$HOST_FOLDER/upper/files" "$HOST_FOLDER/upper/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$HOST_FOLDER/upper/files,workdir=$HOST_FOLDER/upper/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t tmpfs -o size=512m tmpfs "$root/dev/shm"
mount -t tmpfs -o size=64m tmpfs "$root/run"
mount -t tmpfs -o size=2g,mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o size=256m,mode=700 tmpfs "$home" # a home without anything of the real one

while IFS= read -r -d : folder; do
    mkdir -p "$root$folder"
    mount -t tmpfs -o size=1m tmpfs "$root$folder"
done <<<"$HOST_HIDDEN_FOLDERS"
while IFS= read -r -d : folder; do
    mkdir -p "$root$folder"
    mount --bind "$folder" "$root$folder"
    mount -o remount,bind,ro "$root$folder"
done <<<"$HOST_READ_ONLY"
: >"$HOST_FOLDER/empty"
while IFS= read -r -d : file; do
    mount --bind "$HOST_FOLDER/empty" "$root$file"
done <<<"$HOST_HIDDEN_FILES"
mkdir -p "$root/mnt/shared"
mount --bind "$HOST_LAN/shared" "$root/mnt/shared"

# Removed first: either may be a link that leads out of this root.
rm -f "$root/etc/resolv.conf" "$root/etc/hosts"
: >"$root/etc/resolv.conf" # a name server out of reach would be waited for in every look-up
cp "$HOST_LAN/names" "$root/etc/hosts"
sed -i 's,^root:[^:]*:,root:*:,' "$root/etc/shadow" # sshd lets nobody into a locked account
mkdir -m 700 "$home/.ssh"
mkdir "$root/run/sshd"
cp "$HOST_LAN/key.pub" "$home/.ssh/authorized_keys"
[ -z "$HOST_KEY" ] || install -m 600 "$HOST_LAN/key" "$home/.ssh/id_ed25519"
{
    echo "export PATH=$HOST_PROJECT_ENVIRONMENT/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin LANG=C.UTF-8"
    echo "export HF_HUB_OFFLINE=1 DS_BUILD_OPS=0 OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0"
} >"$home/.bashrc"
echo '. ~/.bashrc' >"$home/.profile"

ip link set lo up
until ip link show eth0 >/dev/null 2>&1; do sleep 0.01; done
ip address add "$HOST_ADDRESS/24" dev eth0
ip link set eth0 up
ip route add default via "${HOST_ADDRESS%.*}.1"

exec chroot "$root" /bin/bash -c 'ssh-keygen -q -t ed25519 -N "" -f /run/sshd/key &&
    exec /usr/sbin/sshd -D -e -h /run/sshd/key -o PermitRootLogin=prohibit-password -o UsePAM=no -o UseDNS=no'
