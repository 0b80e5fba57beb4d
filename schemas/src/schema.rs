//! An Avro schema, parsed (Avro specification 1.12, "Schema Declaration" and "Parsing Canonical Form").

use std::{collections::HashMap, fmt::Write};

use serde_json::{Map, Value};

use crate::fingerprint::crc_64_avro;

/// Index of a type within its [`Schema`].
pub(crate) type TypeId = usize;

/// A schema with its named types resolved: types refer to each other by index, so a type may contain itself.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) types: Vec<Type>,
    pub(crate) root: TypeId,
    /// CRC-64-AVRO of the Parsing Canonical Form.
    pub(crate) fingerprint: u64,
    #[cfg(test)]
    pub(crate) canonical: String,
}

#[derive(Debug)]
pub(crate) enum Type {
    Null,
    Boolean,
    Int(Logical),
    Long(Logical),
    Float,
    Double,
    /// True with a logical type that changes what the bytes mean (`decimal`).
    Bytes(Logical),
    String,
    Fixed(usize, Logical),
    Enum(Box<[Box<str>]>),
    Array(TypeId),
    Map(TypeId),
    Union(Box<[TypeId]>),
    Record(Record),
}

#[derive(Debug)]
pub(crate) struct Record {
    /// Name with namespace.
    pub(crate) name: Box<str>,
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    pub(crate) aliases: Vec<Box<str>>,
    pub(crate) of: TypeId,
}

/// The logical types that matter to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logical {
    /// None, or one that does not change how the value is to be understood here.
    None,
    /// A UTC time; one unit is so many nanoseconds.
    Timestamp { unit_ns: i64 },
    /// Another meaning (a date, a decimal, a time without zone): the plain value must not be taken for ours.
    Other,
}

impl Schema {
    /// Parses a schema's JSON text.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(crate) fn parse(avsc: &str) -> Result<Self, String> {
        let json: Value = serde_json::from_str(avsc).map_err(|error| format!("it is not JSON: {error}"))?;
        let mut parser = Parser { types: Vec::new(), named: HashMap::new(), canonical: String::new() };
        let root = parser.any(&json, "")?;
        let fingerprint = crc_64_avro(parser.canonical.as_bytes());
        Ok(Self {
            types: parser.types,
            root,
            fingerprint,
            #[cfg(test)]
            canonical: parser.canonical,
        })
    }

    /// The type at `id`.
    pub(crate) fn of(&self, id: TypeId) -> &Type {
        // Ids come from the parser only; Null is a safe answer to one that does not.
        self.types.get(id).unwrap_or(&Type::Null)
    }
}

struct Parser {
    types: Vec<Type>,
    named: HashMap<String, TypeId>,
    canonical: String,
}

impl Parser {
    fn any(&mut self, json: &Value, namespace: &str) -> Result<TypeId, String> {
        match json {
            Value::String(name) => self.name(name, Logical::None, namespace),
            Value::Array(branches) => self.union(branches, namespace),
            Value::Object(object) => self.object(object, namespace),
            other => Err(format!("{other} is not a type: a type is a name, an object or an array")),
        }
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<TypeId, String> {
        match object.get("type") {
            Some(Value::String(kind)) => match kind.as_str() {
                "record" | "error" => self.record(object, namespace),
                "enum" => self.symbols(object, namespace),
                "fixed" => self.fixed(object, namespace),
                "array" => self.nested(object, "items", "array", Type::Array, namespace),
                "map" => self.nested(object, "values", "map", Type::Map, namespace),
                name => self.name(name, logical(object), namespace),
            },
            Some(inner) => self.any(inner, namespace),
            None => Err("an object without `type` is not a type".into()),
        }
    }

    fn name(&mut self, name: &str, logical: Logical, namespace: &str) -> Result<TypeId, String> {
        let primitive = match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" => Type::Int(logical),
            "long" => Type::Long(logical),
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes(logical),
            "string" => Type::String,
            _ => {
                let full =
                    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") };
                let id = *self.named.get(&full).or_else(|| self.named.get(name)).ok_or_else(|| {
                    format!("the type `{name}` is not known: a registered schema must contain the types that it names")
                })?;
                quote(&mut self.canonical, if self.named.contains_key(&full) { &full } else { name });
                return Ok(id);
            }
        };
        quote(&mut self.canonical, name);
        Ok(self.add(primitive))
    }

    fn union(&mut self, branches: &[Value], namespace: &str) -> Result<TypeId, String> {
        self.canonical.push('[');
        let mut ids = Vec::with_capacity(branches.len());
        for (index, branch) in branches.iter().enumerate() {
            if branch.is_array() {
                return Err("a union must not directly contain a union".into());
            }
            if index > 0 {
                self.canonical.push(',');
            }
            ids.push(self.any(branch, namespace)?);
        }
        self.canonical.push(']');
        Ok(self.add(Type::Union(ids.into())))
    }

    fn record(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<TypeId, String> {
        let (name, namespace) = full_name(object, namespace)?;
        let id = self.declare(&name)?;
        let fields = array(object, "fields", &name)?;
        let _ = write!(self.canonical, r#"{{"name":"{name}","type":"record","fields":["#);
        let mut parsed: Vec<Field> = Vec::with_capacity(fields.len());
        for (index, field) in fields.iter().enumerate() {
            let field = field.as_object().ok_or_else(|| format!("a field of `{name}` is not an object"))?;
            let field_name = identifier(field.get("name"), &name)?;
            if parsed.iter().any(|other| *other.name == *field_name) {
                return Err(format!("`{name}` has two fields named `{field_name}`"));
            }
            let of = field.get("type").ok_or_else(|| format!("the field `{field_name}` of `{name}` has no type"))?;
            if index > 0 {
                self.canonical.push(',');
            }
            let _ = write!(self.canonical, r#"{{"name":"{field_name}","type":"#);
            // A logical type may also stand beside the field's type; that is a common mistake, and means nothing.
            let of = self.any(of, &namespace)?;
            self.canonical.push('}');
            let aliases = field.get("aliases").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            parsed.push(Field {
                name: field_name.into(),
                aliases: aliases.iter().filter_map(Value::as_str).map(Into::into).collect(),
                of,
            });
        }
        self.canonical.push_str("]}");
        self.define(id, Type::Record(Record { name: name.into(), fields: parsed }))
    }

    fn symbols(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<TypeId, String> {
        let (name, _) = full_name(object, namespace)?;
        let id = self.declare(&name)?;
        let _ = write!(self.canonical, r#"{{"name":"{name}","type":"enum","symbols":["#);
        let mut symbols: Vec<Box<str>> = Vec::new();
        for (index, symbol) in array(object, "symbols", &name)?.iter().enumerate() {
            let symbol = identifier(Some(symbol), &name)?;
            if index > 0 {
                self.canonical.push(',');
            }
            quote(&mut self.canonical, symbol);
            symbols.push(symbol.into());
        }
        self.canonical.push_str("]}");
        self.define(id, Type::Enum(symbols.into()))
    }

    fn fixed(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<TypeId, String> {
        let (name, _) = full_name(object, namespace)?;
        let id = self.declare(&name)?;
        let size = object
            .get("size")
            .and_then(Value::as_u64)
            .and_then(|size| usize::try_from(size).ok())
            .ok_or_else(|| format!("the fixed type `{name}` has no size"))?;
        let _ = write!(self.canonical, r#"{{"name":"{name}","type":"fixed","size":{size}}}"#);
        self.define(id, Type::Fixed(size, logical(object)))
    }

    fn nested(
        &mut self,
        object: &Map<String, Value>,
        key: &str,
        kind: &str,
        make: fn(TypeId) -> Type,
        namespace: &str,
    ) -> Result<TypeId, String> {
        let inner = object.get(key).ok_or_else(|| format!("a type `{kind}` has no `{key}`"))?;
        let _ = write!(self.canonical, r#"{{"type":"{kind}","{key}":"#);
        let inner = self.any(inner, namespace)?;
        self.canonical.push('}');
        Ok(self.add(make(inner)))
    }

    fn declare(&mut self, name: &str) -> Result<TypeId, String> {
        let id = self.add(Type::Null);
        match self.named.insert(name.to_owned(), id) {
            None => Ok(id),
            Some(_) => Err(format!("the type `{name}` is defined twice")),
        }
    }

    fn define(&mut self, id: TypeId, of: Type) -> Result<TypeId, String> {
        if let Some(place) = self.types.get_mut(id) {
            *place = of;
        }
        Ok(id)
    }

    fn add(&mut self, of: Type) -> TypeId {
        self.types.push(of);
        self.types.len() - 1
    }
}

fn full_name(object: &Map<String, Value>, enclosing: &str) -> Result<(String, String), String> {
    let name = object.get("name").and_then(Value::as_str).ok_or("a named type has no name")?;
    if let Some((namespace, _)) = name.rsplit_once('.') {
        check(name)?;
        return Ok((name.to_owned(), namespace.to_owned()));
    }
    let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(enclosing);
    let full = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") };
    check(&full)?;
    Ok((full, namespace.to_owned()))
}

fn check(full: &str) -> Result<(), String> {
    full.split('.').all(is_identifier).then_some(()).ok_or_else(|| format!("`{full}` is not a valid name"))
}

fn identifier<'a>(name: Option<&'a Value>, of: &str) -> Result<&'a str, String> {
    let name = name.and_then(Value::as_str).ok_or_else(|| format!("a field or symbol of `{of}` has no name"))?;
    if is_identifier(name) { Ok(name) } else { Err(format!("`{name}` of `{of}` is not a valid name")) }
}

fn is_identifier(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn array<'a>(object: &'a Map<String, Value>, key: &str, name: &str) -> Result<&'a [Value], String> {
    object.get(key).and_then(Value::as_array).map(Vec::as_slice).ok_or_else(|| format!("`{name}` has no `{key}`"))
}

fn logical(object: &Map<String, Value>) -> Logical {
    match object.get("logicalType").and_then(Value::as_str) {
        None => Logical::None,
        Some("timestamp-millis") => Logical::Timestamp { unit_ns: 1_000_000 },
        Some("timestamp-micros") => Logical::Timestamp { unit_ns: 1_000 },
        Some("timestamp-nanos") => Logical::Timestamp { unit_ns: 1 },
        Some(
            "decimal"
            | "date"
            | "time-millis"
            | "time-micros"
            | "local-timestamp-millis"
            | "local-timestamp-micros"
            | "local-timestamp-nanos"
            | "duration",
        ) => Logical::Other,
        // Unknown logical types are to be ignored.
        Some(_) => Logical::None,
    }
}

fn quote(out: &mut String, name: &str) {
    out.push('"');
    out.push_str(name);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_the_namespace_around_them() {
        let schema = Schema::parse(
            r#"{"type":"record","name":"a.b.Outer","fields":[
                {"name":"x","type":{"type":"record","name":"Inner","fields":[{"name":"o","type":["null","Outer"]}]}},
                {"name":"y","type":{"type":"fixed","name":"c.F","size":4}},
                {"name":"z","type":["Inner","c.F"]},
                {"name":"e","type":{"type":"enum","name":"E","namespace":"","symbols":["A"]}}]}"#,
        )
        .unwrap();
        assert_eq!(
            schema.canonical,
            concat!(
                r#"{"name":"a.b.Outer","type":"record","fields":["#,
                r#"{"name":"x","type":{"name":"a.b.Inner","type":"record","fields":[{"name":"o","type":["null","a.b.Outer"]}]}},"#,
                r#"{"name":"y","type":{"name":"c.F","type":"fixed","size":4}},"#,
                r#"{"name":"z","type":["a.b.Inner","c.F"]},"#,
                r#"{"name":"e","type":{"name":"E","type":"enum","symbols":["A"]}}]}"#
            )
        );
    }

    #[test]
    fn a_schema_that_is_none_is_refused_with_a_reason() {
        for (avsc, reason) in [
            ("{", "it is not JSON"),
            ("7", "is not a type"),
            (r#""mantis.Reading""#, "`mantis.Reading` is not known"),
            (r#"{"type":"array"}"#, "has no `items`"),
            (r#"[["null"]]"#, "must not directly contain a union"),
            (r#"{"type":"record","name":"R"}"#, "has no `fields`"),
            (r#"{"type":"record","name":"R-2","fields":[]}"#, "is not a valid name"),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
                "two fields named `a`",
            ),
            (r#"[{"type":"fixed","name":"F","size":1},{"type":"fixed","name":"F","size":1}]"#, "`F` is defined twice"),
            (r#"{"type":"fixed","name":"F","size":-1}"#, "has no size"),
        ] {
            let refused = Schema::parse(avsc).unwrap_err();
            assert!(refused.contains(reason), "{avsc}: {refused}");
        }
    }
}
