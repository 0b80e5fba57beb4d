//! Each known way of losing data that this road can have, by name.
