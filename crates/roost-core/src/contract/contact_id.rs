//! `location.contact_id` as OpenSIPS builds it: the AOR's hash, a label of the AOR, a label of the contact.
//!
//! Bits 46 to 61 hold the low 16 bits of the AOR's hash, bits 14 to 45 the AOR's label (random start, counted on),
//! bits 0 to 13 the contact's label. OpenSIPS skips a row at load whose hash does not match its AOR.

/// Bits of the contact's label.
const CONTACT_BITS: u32 = 14;
const AOR_BITS: u32 = 32;

/// OpenSIPS's hash of an AOR. Bytes are signed, sums wrap at 32 bits.
pub fn core_hash(aor: &[u8]) -> u32 {
    let signed = |byte: u8| byte as i8 as u32;
    let fold = |bytes: &[u8]| bytes.iter().fold(0u32, |v, byte| (v << 8).wrapping_add(signed(*byte)));
    let chunks = aor.chunks_exact(4);
    let rest = fold(chunks.remainder());
    let sum = chunks.map(fold).chain([rest]).fold(0u32, |h, v| h.wrapping_add(v ^ (v >> 3)));
    let low = sum.wrapping_add(sum >> 11);
    low.wrapping_add((sum >> 13).wrapping_add(sum >> 23))
}

/// Puts an id together.
pub fn compose(aor: &[u8], aor_label: u32, contact_label: u16) -> u64 {
    let hash = u64::from(core_hash(aor) & 0xffff);
    let contact = u64::from(contact_label) & ((1 << CONTACT_BITS) - 1);
    hash << (CONTACT_BITS + AOR_BITS) | u64::from(aor_label) << CONTACT_BITS | contact
}

/// The AOR's hash in an id.
pub(crate) fn aor_hash(contact_id: u64) -> u16 {
    (contact_id >> (CONTACT_BITS + AOR_BITS)) as u16
}

/// How many of a hundred ids are smaller, if their AORs' hashes are evenly spread.
pub fn percent(contact_id: u64) -> u64 {
    (u64::from(aor_hash(contact_id)) * 100) >> 16
}

/// The AOR's label in an id.
pub fn aor_label(contact_id: u64) -> u32 {
    (contact_id >> CONTACT_BITS) as u32
}

/// The contact's label in an id.
pub fn contact_label(contact_id: u64) -> u16 {
    (contact_id & ((1 << CONTACT_BITS) - 1)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_opensips_made() {
        assert_eq!(core_hash(b"9001@127.0.0.1") & 0xffff, 0x7e8a);
        for (aor, id) in [
            ("9001@127.0.0.1", 2_279_525_098_891_253_104),
            ("9001@127.0.0.1", 2_279_525_098_891_263_896),
            ("910010@127.0.0.1", 3_302_897_745_467_027_600),
            ("910012@127.0.0.1", 2_143_643_053_884_185_496),
        ] {
            assert_eq!(compose(aor.as_bytes(), aor_label(id), contact_label(id)), id, "{aor}");
        }
    }

    #[test]
    fn labels_stay_in_their_bits() {
        let id = compose(b"9001", u32::MAX, u16::MAX);
        assert_eq!((aor_label(id), contact_label(id)), (u32::MAX, (1 << 14) - 1));
        assert_eq!(id >> 62, 0);
        core_hash(b"");
        core_hash(b"\xff\xfe\xfd\xfc\xfb");
    }
}
