//! How many files this process may have open: each connection is one.

use rustix::process::{Resource, getrlimit};

use crate::Limits;

/// What a node has open besides: connections to Redis and of operators, files of keys.
const BESIDES: usize = 128;

impl Limits {
    /// What somebody who starts a node with these limits should mend, if anything.
    #[must_use]
    pub fn concern(&self) -> Option<String> {
        // Without a limit there is none to tell of.
        let most = getrlimit(Resource::Nofile).current?;
        let (connections, needs) = (self.connections, self.connections + BESIDES);
        let is_short = usize::try_from(most).is_ok_and(|most| most < needs);
        is_short.then(|| {
            format!(
                "--connections {connections} needs {needs} open files, and this process may have {most}: raise that (ulimit -n, LimitNOFILE=, ulimits), or allow fewer connections"
            )
        })
    }
}
