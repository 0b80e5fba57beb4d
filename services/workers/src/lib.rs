//! One worker per sink, each the same road with another end.
