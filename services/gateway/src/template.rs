//! Texts with names of columns in braces.

use serde::Deserialize;

use crate::source::FileNames;

/// A text with `{column}`, `{file.name}`, `{file.stem}` and `{file.parent}` in it; `{{` is a brace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    FileName,
    FileStem,
    FileParent,
    Column(String),
}

/// A template for one file: what the file's name gives is filled in, columns are numbered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bound(Vec<BoundPart>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum BoundPart {
    Text(String),
    Column(usize),
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '{' if letters.next_if_eq(&'{').is_some() => literal.push('{'),
                '}' if letters.next_if_eq(&'}').is_some() => literal.push('}'),
                '{' => {
                    let mut name = String::new();
                    loop {
                        match letters.next() {
                            Some('}') => break,
                            Some(letter) => name.push(letter),
                            None => return Err(format!("`{text}` has a `{{` without its `}}`; write `{{{{` for a brace")),
                        }
                    }
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(match name.as_str() {
                        "" => return Err(format!("`{text}` has braces without a column's name between them")),
                        "file.name" => Part::FileName,
                        "file.stem" => Part::FileStem,
                        "file.parent" => Part::FileParent,
                        _ => Part::Column(name),
                    });
                }
                _ => literal.push(letter),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self(parts))
    }
}

impl Template {
    /// True when the text changes from row to row.
    pub(crate) fn has_columns(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Column(_)))
    }

    /// The template for one file; `column` numbers a column by its name.
    pub(crate) fn bind<E>(&self, file: &FileNames, mut column: impl FnMut(&str) -> Result<usize, E>) -> Result<Bound, E> {
        let mut parts: Vec<BoundPart> = Vec::new();
        for part in &self.0 {
            let text = match part {
                Part::Column(name) => {
                    parts.push(BoundPart::Column(column(name)?));
                    continue;
                }
                Part::Text(text) => text,
                Part::FileName => &file.name,
                Part::FileStem => &file.stem,
                Part::FileParent => &file.parent,
            };
            match parts.last_mut() {
                Some(BoundPart::Text(before)) => before.push_str(text),
                _ => parts.push(BoundPart::Text(text.clone())),
            }
        }
        Ok(Bound(parts))
    }
}

impl Bound {
    /// Writes the text for one row over `into`; `None` when a column that it needs is blank.
    pub(crate) fn fill<'a>(&self, into: &mut String, mut cell: impl FnMut(usize) -> Option<&'a str>) -> Option<()> {
        into.clear();
        for part in &self.0 {
            match part {
                BoundPart::Text(text) => into.push_str(text),
                BoundPart::Column(column) => into.push_str(cell(*column)?),
            }
        }
        Some(())
    }

    /// The text, where it is the same for every row.
    pub(crate) fn constant(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [BoundPart::Text(text)] => Some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> FileNames {
        FileNames { name: "0.csv.gz".into(), stem: "0".into(), parent: "valve1".into() }
    }

    #[test]
    fn columns_and_the_files_names_are_filled_in() {
        let template = Template::try_from("{{{file.parent}-{file.stem}/{machine}}}".to_owned()).unwrap();
        let bound = template.bind(&names(), |name| if name == "machine" { Ok(3) } else { Err(()) }).unwrap();
        let mut text = "old".to_owned();
        bound.fill(&mut text, |column| (column == 3).then_some("m7")).unwrap();
        assert_eq!(text, "{valve1-0/m7}");
        assert_eq!(bound.fill(&mut text, |_| None), None);
        assert_eq!(bound.constant(), None);
    }

    #[test]
    fn a_template_without_columns_is_constant() {
        let template = Template::try_from("skab-{file.parent}-{file.name}".to_owned()).unwrap();
        let bound = template.bind(&names(), |_| Err(())).unwrap();
        assert_eq!(bound.constant(), Some("skab-valve1-0.csv.gz"));
        assert!(!template.has_columns());
    }

    #[test]
    fn open_and_empty_braces_are_errors() {
        assert!(Template::try_from("a{b".to_owned()).is_err());
        assert!(Template::try_from("a{}".to_owned()).is_err());
    }
}
