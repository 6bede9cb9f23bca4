//! args → run → exit code.

fn main() {}
