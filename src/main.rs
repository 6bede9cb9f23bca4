//! args → run → exit code.

fn main() -> std::process::ExitCode {
    grantd::cli::main()
}
