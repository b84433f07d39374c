//! Children of a test harness.
//!
//! The `main` of a test program is that of the harness, so there is no place for [`init`](super::init). Instead a child is started as if for one test only, which
//! is `init` and nothing else; that the program has such a test is known before `main`.

use std::ffi::CString;
use std::sync::OnceLock;

use super::init::{init, initialise};

/// The test that is `init`.
static TEST: OnceLock<&'static str> = OnceLock::new();

/// Makes it possible to start processes in tests: to be written once, anywhere in each test program.
///
/// It adds a test named `shmkit_process_child`, in which children turn off from the harness: their functions run in that test. Run by the harness
/// itself, it does nothing.
///
/// # Examples
///
/// ```
/// shmkit_process::enable_test_support!();
///
/// #[test]
/// fn a_process_returns_a_value() {
///     let process = shmkit_process::spawn(u32::reverse_bits, 1).unwrap();
///     assert_eq!(process.join().unwrap(), 1 << 31);
/// }
/// # fn main() {}
/// ```
#[allow(clippy::test_attr_in_doctest, reason = "this is about tests")]
#[macro_export]
macro_rules! enable_test_support {
    () => {
        #[cfg(test)]
        #[test]
        fn shmkit_process_child() {
            $crate::testing::child();
        }

        #[cfg(test)]
        const _: () = {
            #[used]
            #[unsafe(link_section = ".init_array")]
            static ENABLE: extern "C" fn() = {
                extern "C" fn enable() {
                    $crate::testing::enable(concat!(module_path!(), "::shmkit_process_child"));
                }
                enable
            };
        };
    };
}

/// Notes before `main` which test is `init`.
pub fn enable(test: &'static str) {
    // The harness leaves out the name of the program.
    let test = test.split_once("::").map_or(test, |(_, test)| test);
    let _ = TEST.set(test);
    if std::env::var_os(super::bootstrap::VARIABLE).is_none() {
        initialise();
    }
}

/// The test.
pub fn child() {
    init();
}

/// Whether this is a test program that makes children in this way.
pub(crate) fn is_enabled() -> bool {
    TEST.get().is_some()
}

/// The arguments, after the first one, that lead to `init` in a test program.
pub(crate) fn arguments() -> Option<Vec<CString>> {
    let test = CString::new(*TEST.get()?).ok()?;
    let others = [c"--nocapture", c"--include-ignored", c"--test-threads=1"].map(CString::from);
    Some([CString::from(c"--exact"), test].into_iter().chain(others).collect())
}
