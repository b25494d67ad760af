//! A name for the machine that tells nobody which machine it is.

use super::kernel::cpu_model;
use crate::machine::root::Root;

/// The key of this program, so that the name cannot be matched with one that
/// another program made from the same machine-id (machine-id(5) asks for
/// that). Changing it renames every machine.
const KEY: [u64; 2] = [0x6279_7061_7373_2d62, 0x656e_6368_2d69_6431];

/// Eight hexadecimal digits that stay the same for a machine. They come from
/// `/etc/machine-id`, or, where there is none, from the processor's name, the
/// memory size and the host name.
pub fn machine_id8(root: &Root) -> String {
    let id = root
        .read_word("etc/machine-id")
        // An image's placeholder, the same on every machine.
        .filter(|id| id != "uninitialized")
        .unwrap_or_else(|| {
            let cpuinfo = root.read("proc/cpuinfo").unwrap_or_default();
            let memory = root
                .read("proc/meminfo")
                .and_then(|text| super::kibibytes(&text, "MemTotal:"));
            // Kernels differ in how many MiB they keep for themselves.
            let memory_gib = memory.map(|bytes| (bytes + (1 << 29)) >> 30);
            let host = root.read("proc/sys/kernel/hostname");
            format!("{:?} {memory_gib:?} {host:?}", cpu_model(&cpuinfo))
        });
    let hash = siphash24(KEY, id.as_bytes());
    format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012). Written out because the name
/// must not change with the compiler, and the standard library promises
/// nothing about its hasher.
fn siphash24(key: [u64; 2], bytes: &[u8]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0u8; 8];
    last[..rest.len()].copy_from_slice(rest);
    // The length modulo 256 stands in the last byte, by definition.
    last[7] = bytes.len().to_le_bytes()[0];
    for word in words.iter().chain([&last]) {
        let word = u64::from_le_bytes(*word);
        v[3] ^= word;
        sip_round(&mut v);
        sip_round(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for _ in 0..4 {
        sip_round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn sip_round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siphash_matches_the_authors_vectors() {
        // The key 00 01 .. 0f and the messages 00 01 .. of the reference
        // implementation's table; 15 bytes is the example in the paper.
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let message: Vec<u8> = (0..15).collect();
        assert_eq!(siphash24(key, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(siphash24(key, &message[..8]), 0x93f5_f579_9a93_2462);
        assert_eq!(siphash24(key, &message), 0xa129_ca61_49be_45e5);
    }
}
