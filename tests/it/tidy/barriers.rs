//! The test that compares the barriers of the bus with their table in `docs/bus.md`.
//!
//! A barrier is labelled in a comment: `[P1]`. The table has one row for each label, or for two that pair with each
//! other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Whether a word is a label: one capital letter, then a number.
fn is_label(word: &str) -> bool {
    let (letter, number) = word.split_at_checked(1).unwrap_or_default();
    letter.chars().all(|it| it.is_ascii_uppercase())
        && (1..=2).contains(&number.len())
        && number.chars().all(|it| it.is_ascii_digit())
}

/// The labels in square brackets in the comments of `text`.
fn labels_in_comments(text: &str) -> BTreeSet<String> {
    let comments = text.lines().filter_map(|line| line.split_once("//"));
    let words = comments.flat_map(|(_, comment)| comment.split('[').skip(1));
    let labels = words.filter_map(|rest| rest.split_once(']'));
    let labels = labels.map(|(label, _)| label.to_owned());
    labels.filter(|label| is_label(label)).collect()
}

/// The labels in the first column of the page's tables.
fn labels_in_table(page: &str) -> BTreeSet<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let first = rows.filter_map(|row| row.split_once(" |"));
    let labels = first.flat_map(|(labels, _)| labels.split(", "));
    let labels = labels.filter(|label| is_label(label));
    labels.map(str::to_owned).collect()
}

fn read_folder(folder: &Path, labels: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("the folder of the bus") {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            read_folder(&path, labels);
        } else {
            let text = fs::read_to_string(&path).expect("readable UTF-8");
            labels.extend(labels_in_comments(&text));
        }
    }
}

#[test]
fn each_barrier_of_the_bus_is_in_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut in_code = BTreeSet::new();
    read_folder(&root.join("src/ipc"), &mut in_code);
    let page = fs::read_to_string(root.join("docs/bus.md")).expect("the page of the bus");
    assert_eq!(labels_in_table(&page), in_code);
    assert!(in_code.len() > 30, "only {in_code:?} were found");
}

#[test]
fn barriers_are_found_in_comments_and_tables() {
    let code = "// [P1] Pairs with [R2].\nlet [a, b] = [K1]; // not [p3], [P] or [C111]";
    let labels: Vec<_> = labels_in_comments(code).into_iter().collect();
    assert_eq!(labels, ["P1", "R2"]);
    let page = "| P1 | `ring` |\n| M1, M2 | table |\n| word | P3 |\n| 0 | magic |";
    let labels: Vec<_> = labels_in_table(page).into_iter().collect();
    assert_eq!(labels, ["M1", "M2", "P1"]);
}
