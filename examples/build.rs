//! Lets a built example start outside cargo, which otherwise tells the loader where MLX is.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Some(folder) = std::env::var_os("DEP_MLX_LIB_DIR") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}", folder.display());
    }
}
