//! The schemas that MANTIS itself writes. Older versions stay here, so that what was written with them stays readable.

use std::sync::LazyLock;

use crate::schema::Schema;

/// One of our schemas.
pub(crate) struct Known {
    pub(crate) avsc: &'static str,
    pub(crate) fingerprint: u64,
}

macro_rules! known {
    ($($name:ident = $file:literal;)*) => {
        $(pub(crate) static $name: LazyLock<Known> = LazyLock::new(|| Known::new(include_str!(concat!("../avro/", $file))));)*

        /// All of them.
        pub(crate) fn all() -> impl Iterator<Item = &'static Known> {
            [$(&*$name),*].into_iter()
        }
    };
}

known! {
    READING = "reading.avsc";
    READINGS = "readings.avsc";
    READING_COLUMNS = "reading_columns.avsc";
    FRAME = "frame.avsc";
    EVENT = "event.avsc";
    FEATURES = "features.avsc";
}

impl Known {
    fn new(avsc: &'static str) -> Self {
        // That each of them parses is a test; nothing is written with a fingerprint of 0.
        let fingerprint = Schema::parse(avsc).map_or(0, |schema| schema.fingerprint);
        Self { avsc, fingerprint }
    }
}
