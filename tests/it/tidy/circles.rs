//! The test that finds import circles: files of one crate that import each other, directly or through others.
//!
//! The test follows `mod` declarations from the root of a crate, and every path that begins with `crate`,
//! `super`, `self` or the name of a child module. A name that a module re-exports counts as an import of the
//! file that defines it. Code under `#[cfg(test)]` is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::tokens::{code_only, tokens};

/// The root files of the crates.
const ROOTS: &[&str] = &["src/lib.rs", "crates/bench/src/lib.rs"];

/// A module: the names from the root of its crate.
type Module = Vec<String>;

/// The parts of a source file that matter here.
#[derive(Debug, Default)]
struct Source {
    path: String,
    /// Paths that it names, from the root of the crate.
    imports: Vec<Module>,
    /// The names that it passes on with `pub use`, and their paths.
    re_exports: BTreeMap<String, Module>,
}

/// All files of one crate by module, without those that only tests have.
#[derive(Debug, Default)]
struct Crate {
    sources: BTreeMap<Module, Source>,
}

impl Crate {
    fn read(root: &str, read: &impl Fn(&str) -> Option<String>) -> Crate {
        let mut found = Crate::default();
        let (folder, _) = root.rsplit_once('/').expect("a root lies in a folder");
        let text = read(root).expect("the root exists");
        found.add(&[], root.to_owned(), folder, &text, read);
        found
    }

    /// Adds a file and the files of its child modules, which lie in `folder`.
    fn add(
        &mut self,
        module: &[String],
        path: String,
        folder: &str,
        text: &str,
        read: &impl Fn(&str) -> Option<String>,
    ) {
        let code = code_only(text);
        let mut reader = SourceReader::new(module.to_vec(), path);
        reader.read(&without_tests(&tokens(&code)));
        self.sources.insert(module.to_vec(), reader.source);
        for child in reader.children {
            let below = format!("{folder}/{child}");
            let paths = [format!("{below}.rs"), format!("{below}/mod.rs")];
            let file = paths.into_iter().find_map(|it| Some((read(&it)?, it)));
            let (text, path) = file.unwrap_or_else(|| panic!("{below} is not a module"));
            let module = [module, &[child]].concat();
            self.add(&module, path, &below, &text, read);
        }
    }

    /// The file that defines the item at `path`. `None`: the path leads out of the crate.
    fn file_of(&self, path: &[String], depth: usize) -> Option<&str> {
        let known = (0..=path.len()).rev();
        let module = known.map(|len| &path[..len]);
        let module = module
            .into_iter()
            .find(|it| self.sources.contains_key(*it))?;
        let source = &self.sources[module];
        let item = path.get(module.len());
        match item.and_then(|name| source.re_exports.get(name)) {
            Some(target) if depth < 8 => self.file_of(target, depth + 1),
            _ => Some(&source.path),
        }
    }

    /// For each file the files that it imports.
    fn graph(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let imports = |source: &Source| {
            let paths = source.imports.iter();
            let files = paths
                .filter_map(|path| self.file_of(path, 0))
                .map(str::to_owned);
            files
                .filter(|file| *file != source.path)
                .collect::<BTreeSet<_>>()
        };
        let names: BTreeMap<_, _> = self
            .sources
            .values()
            .map(|it| (it.path.as_str(), it))
            .collect();
        let known = |file: String| names.get_key_value(file.as_str()).map(|(name, _)| *name);
        let edges = |source: &&Source| imports(source).into_iter().filter_map(known).collect();
        names
            .iter()
            .map(|(name, source)| (*name, edges(source)))
            .collect()
    }

    /// The imports inside a circle, one file a line.
    fn arrows(&self, circle: &BTreeSet<&str>) -> String {
        let graph = self.graph();
        let inside = |file: &str| {
            graph[file]
                .intersection(circle)
                .copied()
                .collect::<Vec<_>>()
        };
        let lines = circle
            .iter()
            .map(|file| format!("  {file} -> {}\n", inside(file).join(", ")));
        lines.collect()
    }

    /// The sets of files that import each other.
    fn circles(&self) -> Vec<BTreeSet<&str>> {
        let graph = self.graph();
        let reach: BTreeMap<_, _> = graph
            .keys()
            .map(|file| (*file, reachable(&graph, file)))
            .collect();
        let both_ways = |a: &str, b: &str| reach[a].contains(b) && reach[b].contains(a);
        let mut circles: Vec<BTreeSet<&str>> = Vec::new();
        for file in graph.keys().filter(|file| both_ways(file, file)) {
            let of_file = graph.keys().filter(|other| both_ways(file, other));
            let circle: BTreeSet<_> = of_file.copied().collect();
            if !circles.contains(&circle) {
                circles.push(circle);
            }
        }
        circles
    }
}

/// The files that `start` imports, directly or through others.
fn reachable<'a>(graph: &BTreeMap<&'a str, BTreeSet<&'a str>>, start: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<_> = graph[start].iter().copied().collect();
    while let Some(file) = open.pop() {
        if reached.insert(file) {
            open.extend(&graph[file]);
        }
    }
    reached
}

/// The folder that holds all files of a circle.
fn common_folder(circle: &BTreeSet<&str>) -> String {
    let mut folders = circle
        .iter()
        .map(|file| file.rsplit_once('/').map_or("", |it| it.0));
    let first = folders.next().unwrap_or_default();
    let common = folders.fold(first.split('/').collect::<Vec<_>>(), |common, folder| {
        let pairs = common.into_iter().zip(folder.split('/'));
        pairs.take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
    });
    common.join("/")
}

/// Leaves out the items that only tests have: `#[cfg(test)]`, `#[cfg(all(test, ..))]`, `#[cfg(any(.., test))]`.
fn without_tests<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    let mut left = Vec::new();
    let mut rest = tokens;
    while let [first, after @ ..] = rest {
        let is_attribute = matches!(rest, ["#", "[", "cfg", "(", ..]);
        let end = if is_attribute { group_end(after) } else { 0 };
        if is_attribute && is_for_tests(&after[..end]) {
            rest = &after[end..];
            rest = &rest[item_end(rest)..];
        } else {
            left.push(*first);
            rest = after;
        }
    }
    left
}

fn is_for_tests(attribute: &[&str]) -> bool {
    let mut at = attribute
        .iter()
        .enumerate()
        .filter(|(_, token)| **token == "test");
    at.any(|(at, _)| !matches!(&attribute[..at], [.., "not", "("]))
}

/// The number of tokens of the bracketed group at the beginning.
fn group_end(tokens: &[&str]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// The number of tokens of the item at the beginning, with its further attributes.
fn item_end(tokens: &[&str]) -> usize {
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match *token {
            "{" => return at + group_end(&tokens[at..]),
            ";" | "," => return at + 1,
            "}" | ")" => return at,
            "(" | "[" => at += group_end(&tokens[at..]),
            _ => at += 1,
        }
    }
    at
}

/// A reader of one file's tokens, which knows in which inline module it is.
#[derive(Debug)]
struct SourceReader {
    /// The module of the file.
    file: Module,
    /// The inline modules that are open, and the depth of braces at which each of them ends.
    inline: Vec<(String, usize)>,
    children: Vec<String>,
    source: Source,
}

impl SourceReader {
    fn new(file: Module, path: String) -> SourceReader {
        let source = Source {
            path,
            ..Source::default()
        };
        SourceReader {
            file,
            inline: Vec::new(),
            children: Vec::new(),
            source,
        }
    }

    fn read(&mut self, tokens: &[&str]) {
        let mut depth = 0_usize;
        let mut at = 0;
        while at < tokens.len() {
            let (before, rest) = tokens.split_at(at);
            match rest {
                ["mod", name, "{", ..] => self.inline.push(((*name).to_owned(), depth)),
                ["mod", name, ";", ..] => self.children.push((*name).to_owned()),
                ["{", ..] => depth += 1,
                ["}", ..] => {
                    depth = depth.saturating_sub(1);
                    self.inline.pop_if(|(_, start)| *start == depth);
                }
                _ => {}
            }
            // `pub(in path)` is not an import.
            let continues = matches!(before, [.., ":", ":"] | [.., "(", "in"]);
            if let ([_, ":", ":", ..], false) = (rest, continues) {
                let paths = paths(rest);
                self.note(&paths, is_re_export(before));
                // The names inside the braces of a `use` are part of its paths.
                let end = rest.iter().position(|it| matches!(*it, ";" | "{" | "}"));
                match end {
                    Some(end) if rest[end] == "{" && rest[..end].ends_with(&[":", ":"]) => {
                        at += end + group_end(&rest[end..]);
                        continue;
                    }
                    _ => {}
                }
            }
            at += 1;
        }
    }

    fn note(&mut self, paths: &[Vec<&str>], is_re_export: bool) {
        for path in paths {
            let Some(path) = self.resolve(path) else {
                continue;
            };
            match path.last() {
                Some(name) if is_re_export && self.inline.is_empty() => {
                    self.source.re_exports.insert(name.clone(), path);
                }
                _ => self.source.imports.push(path),
            }
        }
    }

    /// The path from the root of the crate. `None`: it begins with another crate, or with a type.
    fn resolve(&self, path: &[&str]) -> Option<Module> {
        let mut module = self.file.clone();
        module.extend(self.inline.iter().map(|(name, _)| name.clone()));
        let mut names = path;
        match names[0] {
            "crate" => {
                module.clear();
                names = &names[1..];
            }
            "self" => names = &names[1..],
            "super" => {
                while let ["super", rest @ ..] = names {
                    module.pop();
                    names = rest;
                }
            }
            child if self.children.iter().any(|it| it == child) => {}
            _ => return None,
        }
        let names = names.iter().filter(|name| !matches!(**name, "self" | "*"));
        module.extend(names.map(|name| (*name).to_owned()));
        Some(module)
    }
}

/// Whether a path that stands behind these tokens is that of a `pub use`.
fn is_re_export(before: &[&str]) -> bool {
    matches!(before, [.., "pub" | ")", "use"])
}

/// The paths that begin here: one, or those of the group in braces at its end.
fn paths<'a>(tokens: &[&'a str]) -> Vec<Vec<&'a str>> {
    let mut path = Vec::new();
    let mut rest = tokens;
    loop {
        match rest {
            ["{", inside @ ..] => {
                let inside = &inside[..group_end(rest) - 2];
                let tails = split_at_commas(inside).into_iter().flat_map(paths);
                return tails.map(|tail| [&path[..], &tail[..]].concat()).collect();
            }
            [name, ":", ":", after @ ..] if *name != "<" => {
                path.push(*name);
                rest = after;
            }
            [name, ..] => {
                path.push(*name);
                return vec![path];
            }
            [] => return vec![path],
        }
    }
}

fn split_at_commas<'a, 'b>(tokens: &'b [&'a str]) -> Vec<&'b [&'a str]> {
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < tokens.len() {
        match tokens[at] {
            "," => {
                parts.push(&tokens[start..at]);
                at += 1;
                start = at;
            }
            "{" => at += group_end(&tokens[at..]),
            _ => at += 1,
        }
    }
    parts.push(&tokens[start..]);
    parts.retain(|part| !part.is_empty());
    parts
}

fn read_from_disk(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

#[test]
fn files_import_each_other_in_no_circle() {
    let mut files = 0;
    for root in ROOTS {
        let sources = Crate::read(root, &read_from_disk);
        files += sources.sources.len();
        let breaches: Vec<_> = sources
            .circles()
            .iter()
            .map(|circle| format!("{}:\n{}", common_folder(circle), sources.arrows(circle)))
            .collect();
        assert!(
            breaches.is_empty(),
            "Files import each other in {}",
            breaches.join("\n")
        );
    }
    assert!(files > 100, "only {files} files were found");
}

/// The circles of a crate that consists of these files below `src`, each as one string.
fn found(files: &[(&str, &str)]) -> Vec<String> {
    let read = |path: &str| {
        let name = path.strip_prefix("src/")?;
        let (_, text) = files.iter().find(|(file, _)| *file == name)?;
        Some((*text).to_owned())
    };
    let sources = Crate::read("src/lib.rs", &read);
    let circles = sources.circles();
    circles
        .iter()
        .map(|it| it.iter().copied().collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn circle_of_imports_is_found() {
    let root = ("lib.rs", "mod a; pub mod b; mod c;");
    let pairs = [
        ("use crate::b::B;", "use crate::a::A;"),
        ("use crate::{lib, b::{self, B}};", "use super::a;"),
        ("fn f() -> crate::b::B { g() }", "fn g() { super::a::f() }"),
        ("mod inner { use super::super::b::B; }", "use crate::a;"),
        ("#[cfg(not(test))] use crate::b;", "use crate::a;"),
        (
            "#[cfg(test)] fn f(x: B) { g(); } use crate::b;",
            "pub use crate::a::A;  use crate::a;",
        ),
    ];
    for (a, b) in pairs {
        let files = [root, ("a.rs", a), ("b.rs", b), ("c.rs", "use crate::a::A;")];
        assert_eq!(found(&files), ["src/a.rs src/b.rs"], "{a} / {b}");
    }
    let long = [
        root,
        ("a.rs", "use crate::b;"),
        ("b.rs", "use crate::c;"),
        ("c.rs", "use crate::a;"),
    ];
    assert_eq!(found(&long), ["src/a.rs src/b.rs src/c.rs"]);
}

#[test]
fn import_in_one_direction_is_no_circle() {
    let root = ("lib.rs", "mod a; mod b;");
    let pairs = [
        ("use crate::b::B;", "use std::sync::Arc; fn f() { a::g() }"),
        (
            "use crate::b::B;",
            "#[cfg(test)] mod tests { use crate::a; }",
        ),
        (
            "use crate::b::B;",
            "#[cfg(all(test, unix))] use crate::a; struct B;",
        ),
        (
            "use crate::b::B;",
            "pub(in crate::a) fn f() {} // crate::a::A",
        ),
    ];
    for (a, b) in pairs {
        assert_eq!(
            found(&[root, ("a.rs", a), ("b.rs", b)]),
            [""; 0],
            "{a} / {b}"
        );
    }
}

#[test]
fn re_exported_name_is_an_import_of_its_file() {
    let root = ("lib.rs", "mod room;");
    let module = (
        "room/mod.rs",
        "mod a; mod b; pub use a::A; pub(crate) use self::b::{B, C};",
    );
    let b = ("room/b.rs", "struct B;");
    let right = [root, module, b, ("room/a.rs", "use super::B;")];
    assert_eq!(found(&right), [""; 0]);
    let wrong = [
        root,
        module,
        ("room/b.rs", "use crate::room::A;"),
        ("room/a.rs", "use super::B;"),
    ];
    assert_eq!(found(&wrong), ["src/room/a.rs src/room/b.rs"]);
    let used = (
        "room/mod.rs",
        "mod a; mod b; pub use a::A; use b::B; struct R(B);",
    );
    let wrong = [
        root,
        used,
        ("room/a.rs", ""),
        ("room/b.rs", "use super::R;"),
    ];
    assert_eq!(found(&wrong), ["src/room/b.rs src/room/mod.rs"]);
}

#[test]
fn file_that_only_tests_have_is_left_out() {
    let root = ("lib.rs", "mod a; #[cfg(all(test, not(loom)))] mod b;");
    assert_eq!(found(&[root, ("a.rs", "use crate::b;")]), [""; 0]);
}
