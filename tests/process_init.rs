//! Programs that do not call `init`, or not in their children. The program is this one: its `main` is no harness's.
fn main() {}
