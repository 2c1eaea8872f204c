//! The `corten` binary: see `corten::cli`.

fn main() -> std::process::ExitCode {
    corten::cli::main(std::env::args_os())
}
