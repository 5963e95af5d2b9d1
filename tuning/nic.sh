#!/bin/sh
# Prepares a network interface for pilot-relay: one receive queue a CPU, each queue's interrupt on its CPU, packets passed
# on where queues are too few, ports in the receive hash, larger rings, merging of datagrams. Why and with which effect:
# README.md beside this file.
#
# Prints what it would do, and what undoes it. With --apply it does it. Nothing survives a reboot.
set -eu

usage() {
    cat <<'TEXT'
usage: nic.sh DEVICE CPUS [--apply]
  DEVICE  the interface the relay serves, such as eth0
  CPUS    the CPUs that shall take its interrupts, such as 0-3,8
  --apply do it; without it, only print
Prints what undoes it, too. `pilot-relay doctor` tells whether it is needed.
Another number of queues (ethtool -L) and longer rings (-G) take the link of most cards down for
seconds, and a relay at work with it: look first without --apply.
TEXT
}

wrong_usage() {
    usage >&2
    exit 2
}

fail() {
    echo "nic.sh: $1" >&2
    exit 1
}

case ${1:-} in -h | --help)
    usage
    exit 0
    ;;
esac
case $# in 2 | 3) ;; *) wrong_usage ;; esac
device=$1
cpu_list=$2
apply=${3:-}
[ -z "$apply" ] || [ "$apply" = --apply ] || wrong_usage
[ -d "/sys/class/net/$device" ] || fail "there is no interface $device; 'ip -brief link' lists them"
command -v ethtool >/dev/null || fail "ethtool is missing; on Debian: apt install ethtool"
if [ -n "$apply" ] && [ "$(id -u)" -ne 0 ]; then fail "--apply needs root"; fi

# 0-3,8 -> one number a line.
cpus() {
    echo "$cpu_list" | tr ',' '\n' | while IFS=- read -r first last; do seq "$first" "${last:-$first}"; done
}
expr "$cpu_list" : '[0-9][0-9,-]*$' >/dev/null || wrong_usage
cpu_count=$(cpus | wc -l)
[ "$cpu_count" -gt 0 ] || wrong_usage
for cpu in $(cpus); do
    [ -d "/sys/devices/system/cpu/cpu$cpu" ] || fail "this host has no CPU $cpu"
done

# change DO UNDO: both are shell commands. What the driver refused needs no undoing.
has_work=
undo_file=$(mktemp)
trap 'rm -f "$undo_file"' EXIT
change() {
    has_work=yes
    echo "  $1"
    if [ -z "$apply" ] || sh -c "$1"; then
        echo "  $2" >>"$undo_file"
    else
        echo "  # refused by the driver; left as it was" >&2
    fi
}
link_goes='# takes the link of most cards down for seconds'

# The value of a named line in one of the two halves (maximums, current) of what ethtool prints.
maximum() { sed -n '/maximums/,/Current/p' | sed -n "s/^$1:[[:space:]]*//p" | head -n 1; }
current() { sed -n '/Current/,$p' | sed -n "s/^$1:[[:space:]]*//p" | head -n 1; }
is_number() { case $1 in '' | *[!0-9]*) return 1 ;; esac; }

queues() {
    channels=$(ethtool -l "$device" 2>/dev/null) || return 0
    most=$(echo "$channels" | maximum Combined)
    now=$(echo "$channels" | current Combined)
    is_number "$most" && is_number "$now" || return 0
    wanted=$cpu_count
    if [ "$wanted" -gt "$most" ]; then wanted=$most; fi
    if [ "$now" -ne "$wanted" ]; then
        change "ethtool -L $device combined $wanted $link_goes" "ethtool -L $device combined $now $link_goes"
        if [ -z "$apply" ]; then queues_to_be=$wanted; fi
    fi
}

rings() {
    rings=$(ethtool -g "$device" 2>/dev/null) || return 0
    most=$(echo "$rings" | maximum RX)
    now=$(echo "$rings" | current RX)
    is_number "$most" && is_number "$now" || return 0
    wanted=4096
    if [ "$wanted" -gt "$most" ]; then wanted=$most; fi
    if [ "$now" -lt "$wanted" ]; then
        change "ethtool -G $device rx $wanted $link_goes" "ethtool -G $device rx $now $link_goes"
    fi
}

hash_with_ports() {
    for family in udp4 udp6; do
        fields=$(ethtool -n "$device" rx-flow-hash "$family" 2>/dev/null) || continue
        case $fields in
            *"L4 bytes 0 & 1"*) ;;
            *"IP SA"*)
                change "ethtool -N $device rx-flow-hash $family sdfn" "ethtool -N $device rx-flow-hash $family sd"
                ;;
        esac
    done
}

offloads() {
    features=$(ethtool -k "$device" 2>/dev/null) || return 0
    for feature in generic-receive-offload tx-udp-segmentation; do
        case $(echo "$features" | sed -n "s/^$feature: //p") in
            off) change "ethtool -K $device $feature on" "ethtool -K $device $feature off" ;;
        esac
    done
}

# Interrupts in the order of their queues, one CPU each, and the transmit queue of the same number to the same CPU.
affinity() {
    number=0
    for irq in $(device_irqs); do
        file=/proc/irq/$irq/smp_affinity_list
        [ -w "$file" ] || [ -z "$apply" ] || continue
        cpu=$(nth_cpu "$number")
        now=$(cat "$file")
        if [ "$now" != "$cpu" ]; then change "echo $cpu > $file" "echo $now > $file"; fi
        number=$((number + 1))
    done
    number=0
    for queue in "/sys/class/net/$device/queues"/tx-*; do
        file=$queue/xps_cpus
        now=$(cat "$file" 2>/dev/null) || continue
        wanted=$(mask "$(nth_cpu "$number")")
        if [ "$(bare "$now")" != "$(bare "$wanted")" ]; then change "echo $wanted > $file" "echo $now > $file"; fi
        number=$((number + 1))
    done
}

# Drivers name the interrupts of receive queues eth0-TxRx-3, virtio2-input.0, mlx5_comp3@pci and so on. Those of virtio
# belong to the device that holds the interface's.
device_irqs() {
    device_folder=$(readlink -f "/sys/class/net/$device/device") || return 0
    for folder in "$device_folder" "$(dirname "$device_folder")"; do
        irqs=$(receive_irqs "$folder")
        if [ -n "$irqs" ]; then
            echo "$irqs"
            return 0
        fi
    done
}

receive_irqs() {
    for irq in $(find "$1/msi_irqs/" -type f -printf '%f\n' 2>/dev/null | sort -n); do
        name=$(sed -n "s/^ *$irq:.* //p" /proc/interrupts | sed "s/$device//")
        case $name in *[Rr]x* | *input* | *comp* | *ntfy*) echo "$irq" ;; esac
    done
}

# Fewer queues than CPUs: the CPU of a queue passes packets on to the others, by address and port (RPS).
spread() {
    queue_count=$(find "/sys/class/net/$device/queues/" -name 'rx-*' | wc -l)
    if [ "$queue_count" -ge "$cpu_count" ]; then return 0; fi
    wanted=$(mask "$(cpus)")
    for queue in "/sys/class/net/$device/queues"/rx-*; do
        file=$queue/rps_cpus
        now=$(cat "$file" 2>/dev/null) || continue
        if [ "$(bare "$now")" != "$(bare "$wanted")" ]; then change "echo $wanted > $file" "echo $now > $file"; fi
    done
}

# A mask without the zeros before it, so that two spellings compare.
bare() { echo "$1" | sed 's/^[0,]*//'; }

nth_cpu() { cpus | sed -n "$(($1 % cpu_count + 1))p"; }

# CPU numbers, one a line, as the comma-separated words of 32 bits that sysfs takes, the highest first.
mask() {
    echo "$1" | awk '
        BEGIN { last = 0 }
        { word = int($1 / 32); bits[word] += 2 ^ ($1 % 32); if (word > last) last = word }
        END { for (word = last; word >= 0; word--) printf "%08x%s", bits[word], word ? "," : "\n" }'
}

# Interrupts and files of queues that do not exist yet have no names.
queues_as_they_will_be() {
    echo "  # then, of each of the $queues_to_be queues: its interrupt and its transmit queue to one of the CPUs $cpu_list"
    if [ "$queues_to_be" -lt "$cpu_count" ]; then echo "  # and what it receives passed on to all of them (rps_cpus)"; fi
}

if [ -n "$apply" ]; then echo "done on $device:"; else echo "to be done on $device (--apply does it):"; fi
queues_to_be=
queues
rings
hash_with_ports
offloads
if [ -n "$queues_to_be" ]; then
    queues_as_they_will_be
else
    affinity
    spread
fi
if [ -z "$has_work" ]; then
    echo "  nothing; it is as it should be, or its driver offers no choice"
    exit 0
fi
if [ -s "$undo_file" ]; then
    echo "to undo, in this order:"
    tac "$undo_file"
fi
if command -v systemctl >/dev/null && systemctl is-active --quiet irqbalance 2>/dev/null; then
    echo "irqbalance is running and will move the interrupts again; stop it: systemctl disable --now irqbalance"
fi
