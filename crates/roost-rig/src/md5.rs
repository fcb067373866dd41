//! MD5 (RFC 1321), so that the tests compute their digests apart from the code under test.

/// The digest of `message` as 32 lower-case hex digits.
pub fn hex(message: &[u8]) -> String {
    let mut state = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let sines: [u32; 64] = std::array::from_fn(|i| ((i as f64 + 1.0).sin().abs() * 4_294_967_296.0) as u32);
    for block in padded(message).chunks_exact(64) {
        mix(&mut state, block, &sines);
    }
    state.iter().flat_map(|word| word.to_le_bytes()).map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 1321 3.1 and 3.2: a one bit, zeros up to 56 modulo 64, the length in bits.
fn padded(message: &[u8]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    bytes.push(0x80);
    while bytes.len() % 64 != 56 {
        bytes.push(0);
    }
    bytes.extend_from_slice(&(message.len() as u64 * 8).to_le_bytes());
    bytes
}

/// RFC 1321 3.4: four rounds of sixteen steps over one block.
fn mix(state: &mut [u32; 4], block: &[u8], sines: &[u32; 64]) {
    let words: [u32; 16] = std::array::from_fn(|i| {
        let at = i * 4;
        u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
    });
    let [mut a, mut b, mut c, mut d] = *state;
    for (step, sine) in sines.iter().enumerate() {
        let (value, word) = match step / 16 {
            0 => ((b & c) | (!b & d), step),
            1 => ((b & d) | (c & !d), (5 * step + 1) % 16),
            2 => (b ^ c ^ d, (3 * step + 5) % 16),
            _ => (c ^ (b | !d), 7 * step % 16),
        };
        let turned = a
            .wrapping_add(value)
            .wrapping_add(words[word])
            .wrapping_add(*sine)
            .rotate_left(SHIFTS[step / 16][step % 4]);
        (a, b, c, d) = (d, b.wrapping_add(turned), b, c);
    }
    for (sum, part) in state.iter_mut().zip([a, b, c, d]) {
        *sum = sum.wrapping_add(part);
    }
}

/// The rotations of each round's four alternating steps.
const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
