//! Tests the structure of the sources. A layer imports only layers below it, imports of sibling modules form no cycle,
//! and functions and files are short.

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::{ModulePath, Modules};

/// Layers of `src/lib.rs`, from lowest to highest. Modules in one entry are on the same layer.
const LAYERS: &[&[&str]] = &[
    &["domain"],
    &["protocol"],
    &["store"],
    &["backend"],
    &["outbound"],
    &["accounts"],
    &["chat"],
    &["http"],
    &["ws", "web"],
    &["node"],
    &["cli"],
];

/// Type names that macros require. Several modules therefore have types with these names.
const NAMES_OF_MACROS: [&str; 2] = ["Model", "Relation"];

#[test]
fn a_layer_imports_only_layers_below_it() {
    let modules = Modules::of_program();
    let rank = |module: &ModulePath| LAYERS.iter().position(|layer| layer.contains(&module[0].as_str()));
    let top_level: BTreeSet<&str> =
        modules.0.keys().filter(|path| path.len() == 1).map(|path| path[0].as_str()).collect();
    let layers: BTreeSet<&str> = LAYERS.iter().copied().flatten().copied().collect();
    assert_eq!(top_level, layers, "each module of src/ is in a layer");
    let imports = modules.imports();
    assert!(imports.len() > 500, "the imports are found: {}", imports.len());
    let upward: Vec<String> = imports
        .iter()
        .filter(|(from, to)| rank(from) < rank(to))
        .map(|(from, to)| format!("{} imports {}", from.join("::"), to.join("::")))
        .collect();
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn sibling_modules_form_no_cycle() {
    /// Imports between submodules of the same module. Each import has an example as its value.
    type Siblings<'a> = BTreeMap<&'a str, BTreeMap<&'a str, String>>;
    let imports = Modules::of_program().imports();
    let mut families: BTreeMap<&[String], Siblings<'_>> = BTreeMap::new();
    // SeaORM requires that the two tables of a relation refer to each other, so imports between tables are ignored.
    let is_relation = |module: &ModulePath| module.starts_with(&["store".to_owned(), "entity".to_owned()]);
    for (from, to) in imports.iter().filter(|(from, to)| !is_relation(from) || !is_relation(to)) {
        let common = from.iter().zip(to).take_while(|(from, to)| from == to).count();
        let example = format!("{} imports {}", from.join("::"), to.join("::"));
        let siblings = families.entry(&from[..common]).or_default();
        siblings.entry(&from[common]).or_default().entry(&to[common]).or_insert(example);
    }
    let mut cycles = Vec::new();
    for siblings in families.values() {
        for start in siblings.keys() {
            let (mut pending, mut reached) = (vec![*start], BTreeMap::new());
            while let Some(module) = pending.pop() {
                for (next, example) in siblings.get(module).into_iter().flatten() {
                    if !reached.contains_key(next) {
                        reached.insert(*next, example);
                        pending.push(next);
                    }
                }
            }
            cycles.extend(reached.get(start).map(|example| format!("{example}, in a cycle of {start}")));
        }
    }
    assert!(cycles.is_empty(), "{cycles:#?}");
}

#[test]
fn functions_and_files_stay_small() {
    let modules = Modules::of_program();
    let mut functions = Vec::new();
    let mut files = Vec::new();
    for (path, module) in &modules.0 {
        functions.extend(module.functions.iter().map(|(name, lines)| (*lines, format!("{}::{name}", path.join("::")))));
        files.extend((module.lines > 0).then(|| (module.lines, path.join("::"))));
    }
    for (mut sizes, [median, ninth, longest]) in [(functions, [7, 22, 80]), (files, [120, 300, 450])] {
        sizes.sort_unstable();
        let at = |tenths: usize| &sizes[(sizes.len() - 1) * tenths / 10];
        assert!(sizes.len() > 200);
        assert!(at(5).0 <= median, "median {:?}", at(5));
        assert!(at(9).0 <= ninth, "90th percentile {:?}", at(9));
        let long: Vec<_> = sizes.iter().filter(|(lines, _)| *lines > longest).collect();
        assert!(long.is_empty(), "longer than {longest} lines: {long:#?}");
    }
}

#[test]
fn type_names_are_unique() {
    let modules = Modules::of_program();
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (path, module) in &modules.0 {
        for name in &module.types {
            places.entry(name).or_default().push(path.join("::"));
        }
    }
    places.retain(|name, paths| paths.len() > 1 && !NAMES_OF_MACROS.contains(name));
    assert!(places.is_empty(), "{places:#?}");
}
