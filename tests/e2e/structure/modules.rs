//! Which module of a crate uses which, read from its source: no two modules beside each other may use
//! one another, directly or by way of others. A module and its own children may.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use rstest::rstest;

/// A module, by its path from the root of its crate; the root's is empty.
type Module = Vec<String>;

/// A crate's modules, each with its source.
type Sources = BTreeMap<Module, String>;

/// Names that a module has from elsewhere, and where they lead.
type Imports = BTreeMap<Module, BTreeMap<String, Module>>;

/// Modules beside each other, by the module that they are in, and what each uses of the others.
type Arrows = BTreeMap<Module, BTreeMap<String, BTreeSet<String>>>;

/// The sources of the crate in `folder`, without tests.
fn sources(folder: &Path) -> Sources {
    let mut sources = Sources::new();
    read(&folder.join("src"), &Module::new(), &mut sources);
    sources
}

fn read(folder: &Path, module: &Module, into: &mut Sources) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the entry can be read").path();
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let child = || [module.as_slice(), std::slice::from_ref(&stem)].concat();
        let is_test = stem == "tests" || stem.ends_with("_tests");
        if path.is_dir() {
            if !is_test && stem != "bin" {
                read(&path, &child(), into);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
            let module = match stem.as_str() {
                "lib" | "main" | "mod" => module.clone(),
                _ => child(),
            };
            let text = fs::read_to_string(&path).expect("the file can be read");
            into.entry(module).or_default().push_str(&code(&text));
        }
    }
}

/// The code of a file: without comments, what stands in quotes, and the tests at its end.
fn code(text: &str) -> String {
    let text = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text);
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            quoted(rest)
        } else if let Some(length) = character(rest).filter(|_| first == '\'') {
            length
        } else {
            code.push(first);
            first.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

/// The length of the character in quotes that `rest` begins with; `None` if that is a lifetime.
fn character(rest: &str) -> Option<usize> {
    let mut inside = rest.char_indices().skip(1);
    let (at, first) = inside.next()?;
    if first == '\\' {
        let (escaped, _) = inside.next()?;
        return rest[escaped + 1..].find('\'').map(|end| escaped + end + 2);
    }
    let end = at + first.len_utf8();
    rest[end..].starts_with('\'').then_some(end + 1)
}

/// The length of the text in quotes that `rest` begins with.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !escaped => return at + 1,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// The words and marks of a path or a tree of `use`.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_alphanumeric() || first == '_' {
            let end = |c: char| !(c.is_alphanumeric() || c == '_');
            rest.find(end).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            tokens.push(&rest[..length]);
        }
        rest = &rest[length..];
    }
    tokens
}

/// All paths of the tree that `tokens` begin with, and how many tokens it has.
fn tree(tokens: &[&str]) -> (Vec<Module>, usize) {
    let mut path = Module::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        if *token == "{" {
            let mut paths = Vec::new();
            while tokens.get(at).is_some_and(|token| *token != "}") {
                let (inner, length) = tree(&tokens[at..]);
                paths.extend(inner.into_iter().map(|rest| [path.clone(), rest].concat()));
                at += length.max(1);
                while tokens
                    .get(at)
                    .is_some_and(|token| !["}", ","].contains(token))
                {
                    at += 1;
                }
                at += usize::from(tokens.get(at) == Some(&","));
            }
            return (paths, at + 1);
        }
        path.push((*token).to_owned());
        if tokens.get(at) != Some(&"::") {
            break;
        }
        at += 1;
    }
    (vec![path], at)
}

/// `path`, as it stands in `module`, from the root of the crate; `None` if it is of another crate.
fn absolute(module: &Module, path: &[String], sources: &Sources) -> Option<Module> {
    let mut base = module.clone();
    let mut rest = path;
    match rest.first()?.as_str() {
        "crate" => return Some(rest[1..].to_vec()),
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|first| first == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        first => {
            let child = [base.as_slice(), &[first.to_owned()]].concat();
            if !sources.contains_key(&child) {
                return None;
            }
        }
    }
    Some([base.as_slice(), rest].concat())
}

fn imports(sources: &Sources) -> Imports {
    let mut imports = Imports::new();
    for (module, code) in sources {
        let tokens = tokens(code);
        for at in (0..tokens.len()).filter(|at| tokens[*at] == "use") {
            for path in tree(&tokens[at + 1..]).0 {
                if let Some(path) = absolute(module, &path, sources)
                    && let Some(name) = path.last()
                {
                    let names = imports.entry(module.clone()).or_default();
                    names.insert(name.clone(), path);
                }
            }
        }
    }
    imports
}

/// The module in which `path` is defined, also where another module passes it on.
fn defined_in(path: &Module, sources: &Sources, imports: &Imports) -> Module {
    let mut path = path.clone();
    // Passed on at most so often; a name that leads to itself leads nowhere.
    for _ in 0..8 {
        let depth = (0..=path.len())
            .rev()
            .find(|depth| sources.contains_key(&path[..*depth]))
            .unwrap_or(0);
        let (module, rest) = path.split_at(depth);
        let next = rest
            .first()
            .and_then(|name| imports.get(module)?.get(name))
            .filter(|next| **next != path[..=depth]);
        let Some(next) = next else {
            return module.to_vec();
        };
        path = [next.as_slice(), &rest[1..]].concat();
    }
    Module::new()
}

fn arrows(sources: &Sources) -> Arrows {
    let imports = imports(sources);
    let mut arrows = Arrows::new();
    for (module, code) in sources {
        let tokens = tokens(code);
        for (at, token) in tokens.iter().enumerate() {
            let begins = ["crate", "super", "self"].contains(token)
                && tokens.get(at + 1) == Some(&"::")
                && (at == 0 || tokens[at - 1] != "::");
            if !begins {
                continue;
            }
            for path in tree(&tokens[at..]).0 {
                let Some(path) = absolute(module, &path, sources) else {
                    continue;
                };
                let used = defined_in(&path, sources, &imports);
                let both = module.iter().zip(&used);
                let common = both.take_while(|(one, other)| one == other).count();
                if let (Some(from), Some(to)) = (module.get(common), used.get(common)) {
                    let beside = arrows.entry(module[..common].to_vec()).or_default();
                    beside.entry(from.clone()).or_default().insert(to.clone());
                }
            }
        }
    }
    arrows
}

/// A cycle among modules beside each other, as `a -> b -> a`.
fn cycle(beside: &BTreeMap<String, BTreeSet<String>>) -> Option<String> {
    fn walk<'m>(
        beside: &'m BTreeMap<String, BTreeSet<String>>,
        trail: &mut Vec<&'m str>,
        done: &mut BTreeSet<&'m str>,
    ) -> Option<String> {
        let used = beside.get(*trail.last()?).into_iter().flatten();
        for next in used.map(String::as_str) {
            if let Some(at) = trail.iter().position(|module| *module == next) {
                return Some([&trail[at..], &[next]].concat().join(" -> "));
            }
            if done.insert(next) {
                trail.push(next);
                let found = walk(beside, trail, done);
                if found.is_some() {
                    return found;
                }
                trail.pop();
            }
        }
        None
    }
    let mut done = BTreeSet::new();
    beside
        .keys()
        .find_map(|module| walk(beside, &mut vec![module], &mut done))
}

/// The cycles of a crate, one for each group of modules beside each other.
fn cycles(sources: &Sources) -> Vec<String> {
    let arrows = arrows(sources);
    let found = arrows.iter().filter_map(|(parent, beside)| {
        let cycle = cycle(beside)?;
        let path = ["crate"]
            .into_iter()
            .chain(parent.iter().map(String::as_str));
        let path: Vec<_> = path.collect();
        Some(format!("{}: {cycle}", path.join("::")))
    });
    found.collect()
}

#[test]
fn no_modules_beside_each_other_use_one_another() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders = vec![root.join("config"), root.join("config/types")];
    for entry in fs::read_dir(root.join("proxy")).unwrap() {
        folders.push(entry.unwrap().path());
    }
    let mut found = Vec::new();
    for folder in folders.iter().filter(|folder| folder.join("src").exists()) {
        let sources = sources(folder);
        assert!(sources.contains_key([].as_slice()), "{}", folder.display());
        let name = folder.file_name().unwrap().display();
        found.extend(
            cycles(&sources)
                .into_iter()
                .map(|cycle| format!("{name}: {cycle}")),
        );
    }
    assert!(found.is_empty(), "import cycles:\n{}", found.join("\n"));
}

/// A crate of these modules, each with its code; the root's name is empty.
fn made_up(modules: &[(&str, &str)]) -> Sources {
    let mut sources = Sources::new();
    for (name, text) in modules {
        let parts = name.split('/').filter(|part| !part.is_empty());
        sources.insert(parts.map(str::to_owned).collect(), code(text));
    }
    sources
}

#[rstest]
#[case::two(
    &[("", "mod a; mod b;"), ("a", "use crate::b::B;"), ("b", "use crate::a::A;")],
    "crate: a -> b -> a"
)]
#[case::by_way_of_a_third(
    &[("", ""), ("a", "use super::b;"), ("b", "use crate::{c::C, d};"), ("c", "fn c() { crate::a::run() }")],
    "crate: a -> b -> c -> a"
)]
#[case::by_way_of_a_child(
    &[("", ""), ("a", ""), ("a/x", "use crate::b::B;"), ("b", "use crate::a::A;")],
    "crate: a -> b -> a"
)]
#[case::by_a_name_passed_on(
    &[("", "pub use a::A;"), ("a", "use crate::b::B;"), ("b", "use crate::{other, A};")],
    "crate: a -> b -> a"
)]
#[case::below_the_top(
    &[("", ""), ("m", ""), ("m/a", "use super::b::B;"), ("m/b", "use crate::m::a::{A, one::Two as Three};")],
    "crate::m: a -> b -> a"
)]
fn a_cycle_is_found_however_it_is_written(
    #[case] modules: &[(&str, &str)],
    #[case] expected: &str,
) {
    assert_eq!(cycles(&made_up(modules)), [expected]);
}

#[rstest]
#[case::one_way(&[("", ""), ("a", "use crate::b::B;"), ("b", "")])]
#[case::a_module_and_its_child(&[("", ""), ("a", "use self::x::X;"), ("a/x", "use super::A;")])]
#[case::the_root_and_its_child(&[("", "use a::A;"), ("a", "use crate::Root;")])]
#[case::in_a_comment(&[("", ""), ("a", "use crate::b::B;"), ("b", "/// See crate::a::A.")])]
#[case::in_quotes(&[("", ""), ("a", "use crate::b::B;"), ("b", "let s = \"\\\"crate::a::A\";")])]
#[case::after_a_quote(&[("", ""), ("a", "use crate::b::B;"), ("b", "['\"', '\\'', '…']; // crate::a::A")])]
#[case::in_a_test(&[
    ("", ""),
    ("a", "use crate::b::B;"),
    ("b", "#[cfg(test)]\nmod tests {\n use crate::a::A;\n}"),
])]
#[case::of_another_crate(&[("", ""), ("a", "use crate::b::B;"), ("b", "use other::a::A;")])]
fn what_is_no_cycle_is_not_one(#[case] modules: &[(&str, &str)]) {
    assert!(cycles(&made_up(modules)).is_empty());
}
