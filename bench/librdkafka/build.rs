//! Compiles `rdkafka_performance.c` as librdkafka ships it, to be linked into a binary of this package.

use std::env;
use std::path::Path;

fn main() {
    let root = env::var("DEP_RDKAFKA_ROOT").expect("rdkafka-sys says where it built librdkafka");
    let root = Path::new(&root);
    let examples = root.join("examples");
    cc::Build::new()
        .file(examples.join("rdkafka_performance.c"))
        .include(examples)
        .include(root.join("src"))
        .include(root)
        .define("main", "rdkafka_performance_main")
        .warnings(false)
        .compile("rdkafka_performance");
    println!("cargo:rerun-if-changed=build.rs");
}
