//! CRC-64-AVRO: how single-object encoding names a writer's schema (Avro specification, "Schema Fingerprints").

const EMPTY: u64 = 0xc15d_213a_a4d7_a795;

const TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut fingerprint = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            fingerprint = (fingerprint >> 1) ^ (EMPTY & (fingerprint & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = fingerprint;
        byte += 1;
    }
    table
};

/// The fingerprint of a schema's Parsing Canonical Form.
pub(crate) const fn crc_64_avro(canonical: &[u8]) -> u64 {
    let mut fingerprint = EMPTY;
    let mut at = 0;
    while at < canonical.len() {
        fingerprint = (fingerprint >> 8) ^ TABLE[((fingerprint ^ canonical[at] as u64) & 0xff) as usize];
        at += 1;
    }
    fingerprint
}
