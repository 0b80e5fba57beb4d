//! Names as tags and in InfluxQL.
//!
//! Line protocol cannot write a tag value that ends in a backslash, or has one before a comma, a space or an equals sign. So a
//! backslash is stored as `%5C`, and a percent sign as `%25`; all other names are stored as they are.

/// The name as a tag's value in line protocol.
pub(super) fn push_tag(line: &mut Vec<u8>, name: &str) {
    for byte in name.bytes() {
        match byte {
            b',' | b' ' | b'=' => line.extend([b'\\', byte]),
            b'\\' => line.extend(b"%5C"),
            b'%' => line.extend(b"%25"),
            _ => line.push(byte),
        }
    }
}

/// The name as a quoted string of InfluxQL.
pub(super) fn quoted(name: &str) -> String {
    let stored = name.replace('%', "%25").replace('\\', "%5C");
    format!("'{}'", stored.replace('\'', "\\'"))
}

/// The name behind a tag's value.
pub(super) fn name(stored: &str) -> String {
    stored.replace("%5C", "\\").replace("%25", "%")
}

/// Asset and sensor of a series key such as `readings,asset=pump\ 1,sensor=flow`.
pub(super) fn series_of(key: &str) -> Option<(String, String)> {
    let (mut asset, mut sensor) = (None, None);
    for tag in split(key).into_iter().skip(1) {
        if let Some(value) = tag.strip_prefix("asset=") {
            asset = Some(name(value));
        } else if let Some(value) = tag.strip_prefix("sensor=") {
            sensor = Some(name(value));
        }
    }
    Some((asset?, sensor?))
}

/// The parts between commas, without the escapes.
fn split(key: &str) -> Vec<String> {
    let (mut parts, mut part, mut chars) = (Vec::new(), String::new(), key.chars());
    while let Some(char) = chars.next() {
        match char {
            '\\' => part.extend(chars.next()),
            ',' => parts.push(std::mem::take(&mut part)),
            _ => part.push(char),
        }
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_escaped_only_where_line_protocol_asks_for_it() {
        let mut line = Vec::new();
        push_tag(&mut line, r#"a,b=c d\ 100% "x" 'y'"#);
        assert_eq!(line, br#"a\,b\=c\ d%5C\ 100%25\ "x"\ 'y'"#);
        assert_eq!(quoted(r"it's 5\%"), r"'it\'s 5%5C%25'");
    }

    proptest! {
        #[test]
        fn any_name_comes_back_from_a_series_key(asset in "\\PC{1,20}", sensor in "[%\\\\, =5C2]{1,12}") {
            let mut key = b"readings,asset=".to_vec();
            push_tag(&mut key, &asset);
            key.extend(b",sensor=");
            push_tag(&mut key, &sensor);
            prop_assert_eq!(series_of(std::str::from_utf8(&key).unwrap()), Some((asset, sensor)));
        }
    }
}
