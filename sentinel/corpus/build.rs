//! Compiles the corpus's C parts: one file for linking in, and shared libraries.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=native");
    cc::Build::new().file("native/linked.c").compile("corpus_linked");

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    library(&out, "shared", &[]);
    library(&out, "opened", &[]);
    library(&out, "shared_again", &[]);
    // Loading one of these stops in the middle, or at its constructor, until somebody lets it go
    // on. The large one's block does not fit where another library's was.
    library(&out, "halfway", &["-DHALFWAY_"]);
    library(&out, "halfway_large", &["-DHALFWAY_", "-DROOM_=67108864"]);
    library(&out, "constructed", &["-DCONSTRUCTOR_"]);
    // Without symbols but for those needed for linking.
    library(&out, "stripped", &["-s"]);
    // A module whose thread-locals come with the thread, not at the first use.
    library(&out, "early", &["-ftls-model=initial-exec"]);
    // So it is with descriptors, while there is room for it beside those that every thread has.
    let dialect = if cfg!(target_arch = "aarch64") { "desc" } else { "gnu2" };
    library(&out, "described", &[&format!("-mtls-dialect={dialect}")]);
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=dylib=corpus_shared");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", out.display());
    println!("cargo::rustc-env=CORPUS_LIBRARIES={}", out.display());
}

fn library(out: &Path, name: &str, more: &[&str]) {
    let file = out.join(format!("libcorpus_{name}.so"));
    let mut command: Command = cc::Build::new().get_compiler().to_command();
    // Plain, also where the program is built with a sanitizer.
    command.arg("-fno-sanitize=all");
    command.args(["-shared", "-fPIC", "-O1", "native/library.c", "-o"]).arg(&file);
    command.arg(format!("-DNAME_={name}_")).args(more);
    let status = command.status().expect("a C compiler is installed");
    assert!(status.success(), "{command:?} failed");
}
