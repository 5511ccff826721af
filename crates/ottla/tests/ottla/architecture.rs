//! ARCHITECTURE.md's table of layers is what cargo sees.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

struct Row {
    layer: u32,
    within: Vec<String>,
}

fn table() -> BTreeMap<String, Row> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    text.lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
            let &[name, layer, _, within] = cells.as_slice() else { return None };
            let within = within.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
            Some((name.to_owned(), Row { layer: layer.parse().ok()?, within: within.collect() }))
        })
        .collect()
}

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_layer_table_is_true() {
    let table = table();
    assert!(table.len() >= 12, "the table was not found in ARCHITECTURE.md");
    let metadata = metadata();
    let mut seen = 0;
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if name == "xtask" {
            continue;
        }
        let name = name.strip_prefix("ottla-").unwrap_or(name);
        let row = table.get(name).unwrap_or_else(|| panic!("crate {name} is not in ARCHITECTURE.md's table"));
        seen += 1;
        for dependency in package["dependencies"].as_array().unwrap() {
            if dependency["kind"].as_str() == Some("dev") {
                continue;
            }
            let Some(imported) = dependency["name"].as_str().unwrap().strip_prefix("ottla-") else { continue };
            let below = table.get(imported).unwrap_or_else(|| panic!("{imported} is not in the table"));
            let allowed = below.layer < row.layer || row.within.iter().any(|within| within == imported);
            assert!(allowed, "{name} (layer {}) imports {imported} (layer {})", row.layer, below.layer);
            let pure = row.layer == 2;
            assert!(!(pure && imported == "rt"), "{name} is a core and may not reach the world");
        }
        let external: Vec<_> = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
            .filter_map(|dependency| dependency["name"].as_str())
            .collect();
        if row.layer == 0 || row.layer == 2 {
            for forbidden in ["tokio", "getrandom", "rand", "rustix"] {
                assert!(!external.contains(&forbidden), "{name} (layer {}) imports {forbidden}", row.layer);
            }
        }
    }
    assert_eq!(seen, table.len(), "the table names a crate that does not exist");
}
