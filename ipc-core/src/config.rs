//! What the environment switches off, for tests of the fallbacks.

use std::sync::OnceLock;

/// The mechanisms in use. `SHMKIT_DISABLE`, a comma-separated list read once per process, switches them off by name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// `futex_waitv`: without it, waits look for deaths every few milliseconds.
    pub(crate) futex_waitv: bool,
    /// `keeper`: without it, the process starts no thread; its waits and its peers look for deaths every few milliseconds.
    pub(crate) keeper: bool,
    /// `proc`: without it, a death is confirmed by the kernel's lock on the participant's entry only.
    pub(crate) proc: bool,
    /// `safety_net`: without it, waits sleep for as long as nobody wakes them.
    pub(crate) safety_net: bool,
}

/// The configuration of this process.
pub(crate) fn get() -> Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    *CONFIG.get_or_init(|| {
        // Models have no clock: a wait that only the net would end is the bug they look for.
        let disabled = if cfg!(ipc_loom) { Ok("safety_net".to_owned()) } else { std::env::var("SHMKIT_DISABLE") };
        parse(&disabled.unwrap_or_default())
    })
}

fn parse(disabled: &str) -> Config {
    let enabled = |name| !disabled.split(',').any(|word| word.trim() == name);
    Config {
        futex_waitv: enabled("futex_waitv"),
        keeper: enabled("keeper"),
        proc: enabled("proc"),
        safety_net: enabled("safety_net"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_list_are_off_and_others_on() {
        let config = parse("keeper, proc");
        assert!(!config.keeper && !config.proc);
        assert!(config.futex_waitv && config.safety_net);
    }
}
