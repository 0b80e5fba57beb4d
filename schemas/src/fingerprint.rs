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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;

    /// From the Avro project's own test data, share/test/data/schema-tests.txt.
    #[test]
    fn fingerprints_are_those_of_the_avro_project() {
        for (avsc, canonical, fingerprint) in [
            (r#""null""#, r#""null""#, 7195948357588979594),
            (r#"{"type":"boolean"}"#, r#""boolean""#, -6970731678124411036),
            (r#""int""#, r#""int""#, 8247732601305521295),
            (r#"{"type":"long","logicalType":"timestamp-millis"}"#, r#""long""#, -3434872931120570953_i64),
            (r#"[ ]"#, "[]", -1241056759729112623),
            (
                r#"{"fields":[{"type":"boolean","doc":"x","name":"f1"}],"type":"record","name":"foo"}"#,
                r#"{"name":"foo","type":"record","fields":[{"name":"f1","type":"boolean"}]}"#,
                7843277075252814651,
            ),
        ] {
            let schema = Schema::parse(avsc).unwrap();
            assert_eq!(schema.canonical, canonical);
            assert_eq!(crc_64_avro(canonical.as_bytes()) as i64, fingerprint, "{avsc}");
            assert_eq!(schema.fingerprint as i64, fingerprint);
        }
    }
}
