//! Keeps docs/reliability.md honest: its table names, failure by failure, the tests that the code marks with
//! `data-loss bug #N`, all of them and no others. A failure without a test says `Later:` and why.
//!
//! `MANTIS_UPDATE=1 cargo test -p mantis-testing --test reliability` writes the tests into the table.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const FAILURES: usize = 25;
const MARK: &str = "data-loss bug #";
const UPDATE: &str = "MANTIS_UPDATE";

/// Failure -> folder of the crate -> names of tests.
type Tests = BTreeMap<usize, BTreeMap<String, BTreeSet<String>>>;

#[test]
fn the_table_of_failures_names_the_tests_that_keep_them_out() {
    let root = mantis_testing::repository();
    let page = root.join("docs/reliability.md");
    let is = fs::read_to_string(&page).unwrap();
    let tests = marked_tests(&root);
    assert!(tests.keys().all(|number| (1..=FAILURES).contains(number)), "there are {FAILURES} failures: {:?}", tests.keys());

    let (mut numbers, mut open) = (Vec::new(), Vec::new());
    let mut should_be = String::new();
    for line in is.lines() {
        match row_number(line) {
            Some(number) => {
                numbers.push(number);
                match tests.get(&number) {
                    Some(tests) => should_be += &row(number, line, tests),
                    None => {
                        should_be += line;
                        if !line.contains("| Later: ") {
                            open.push(number);
                        }
                    }
                }
            }
            None => should_be += line,
        }
        should_be.push('\n');
    }
    assert_eq!(numbers, (1..=FAILURES).collect::<Vec<_>>(), "the rows of docs/reliability.md");
    let update = std::env::var_os(UPDATE).is_some();
    if update {
        fs::write(&page, should_be).unwrap();
    } else {
        let wrong: Vec<_> = is.lines().zip(should_be.lines()).filter(|(is, should_be)| is != should_be).collect();
        assert!(wrong.is_empty(), "docs/reliability.md is not what the code says (set {UPDATE}=1 to write it): {wrong:#?}");
    }
    assert!(open.is_empty(), "no test keeps {open:?} out, and docs/reliability.md does not say why (`Later: ...`)");
}

/// A row of the table with its last cell as the code has it.
fn row(number: usize, line: &str, tests: &BTreeMap<String, BTreeSet<String>>) -> String {
    let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
    let [_, failure, answer, _] = cells.as_slice() else {
        panic!("row {number} of docs/reliability.md has {} cells, not 4", cells.len())
    };
    let tests: Vec<String> = tests.iter().map(in_crate).collect();
    format!("| {number} | {failure} | {answer} | {} |", tests.join("<br>"))
}

fn in_crate((folder, names): (&String, &BTreeSet<String>)) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("{folder}: {}", names.join(", "))
}

fn row_number(line: &str) -> Option<usize> {
    line.strip_prefix("| ")?.split_once(" |")?.0.parse().ok()
}

fn marked_tests(root: &Path) -> Tests {
    let mut tests = Tests::new();
    for folder in folders_of_crates(root) {
        let name = folder.strip_prefix(root).unwrap().to_str().unwrap();
        if name == "crates/testing" {
            continue;
        }
        let texts: Vec<String> = rust_files(&folder).iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        let all = texts.concat();
        for text in &texts {
            for (number, test, is_test) in marks(text) {
                // A conformance suite's cases are plain functions, called by the engines' tests.
                assert!(
                    is_test || all.matches(&test).count() > 1,
                    "{name}: {test} keeps failure {number} out, but nothing runs it"
                );
                tests.entry(number).or_default().entry(name.to_owned()).or_default().insert(test);
            }
        }
    }
    tests
}

/// (failure, function behind the mark, whether it is a test by attribute).
fn marks(text: &str) -> Vec<(usize, String, bool)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(MARK) {
        let after = text.get(at + MARK.len()..).unwrap();
        let number = after.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
        let mut is_test = false;
        let function = after.lines().skip(1).map(str::trim_start).find_map(|line| {
            is_test |= line.starts_with("#[") && (line.contains("test]") || line.contains("test("));
            let name = line.split_once("fn ").filter(|_| !line.starts_with("//"))?.1;
            Some(name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>())
        });
        found.push((number, function.unwrap(), is_test));
    }
    found
}

fn folders_of_crates(root: &Path) -> Vec<PathBuf> {
    let members = ["crates", "services"].iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap());
    let mut folders: Vec<PathBuf> = members.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.push(root.join("schemas"));
    folders
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
