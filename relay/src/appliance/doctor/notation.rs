//! How the kernel and systemd write lists of CPUs, names of interrupts and limits.

/// Drivers name the interrupts of receive queues in many ways: eth0-TxRx-3, virtio2-input.0, mlx5_comp3@pci:….
pub fn is_receive(name: &str, interface: &str) -> bool {
    let rest = name.replace(interface, "").to_lowercase();
    ["rx", "input", "comp", "ntfy"].iter().any(|word| rest.contains(word))
}

/// `0-3,8` as numbers.
pub fn cpus_of_list(list: &str) -> Vec<usize> {
    let ranges = list.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<usize>().ok()?..=last.trim().parse().ok()?)
    });
    ranges.flatten().collect()
}

/// A mask of 32-bit words, the highest first, as numbers.
pub fn cpus_of_mask(mask: &str) -> Vec<usize> {
    let words = mask.rsplit(',').map(|word| u32::from_str_radix(word.trim(), 16).unwrap_or(0));
    words
        .enumerate()
        .flat_map(|(index, word)| (0..32).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 32 + bit))
        .collect()
}

/// A limit in a unit file, such as `64M`, `infinity` or `1024:524288`.
pub fn unit_size(text: &str, hard: bool) -> Option<u64> {
    let text = match text.split_once(':') {
        Some((_, limit)) if hard => limit,
        Some((limit, _)) => limit,
        None => text,
    };
    if text == "infinity" {
        return Some(u64::MAX);
    }
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => 40,
    };
    digits.parse::<u64>().ok().map(|number| number << shift)
}

/// Bytes in the kernel's `4096 kB`, whose kB are KiB.
pub fn bytes_of_kib(text: &str) -> Option<u64> {
    text.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_masks_and_sizes_are_read() {
        assert_eq!(cpus_of_list("0-2,8"), [0, 1, 2, 8]);
        assert_eq!(cpus_of_list(""), [0; 0]);
        assert_eq!(cpus_of_mask("00000001,80000002"), [1, 31, 32]);
        let sizes = ["64M", "infinity", "1024:524288", "8388608"].map(|text| unit_size(text, true));
        assert_eq!(sizes, [Some(64 << 20), Some(u64::MAX), Some(524_288), Some(8 << 20)]);
        assert_eq!([bytes_of_kib("    12 kB\n"), bytes_of_kib("12")], [Some(12 << 10), None]);
        assert_eq!([unit_size("1K:2K", false), unit_size("plenty", true)], [Some(1024), None]);
    }

    #[test]
    fn receive_interrupts_are_told_by_their_names() {
        let of = |name| is_receive(name, "eth0");
        assert!(["eth0-TxRx-3", "virtio2-input.0", "mlx5_comp3@pci:0000:01:00.0", "eth0-rx-1"].into_iter().all(of));
        assert!(
            ["virtio2-output.0", "virtio2-config", "eth0", "eth0-tx-1", "mlx5_async@pci"]
                .into_iter()
                .all(|name| !of(name))
        );
    }
}
