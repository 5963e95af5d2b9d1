//! Locked memory: rings count against its limit once the capability to exceed it is gone.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Raises the limit as far as this process may.
pub fn raise_limit() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_MEMLOCK) else { return };
    if setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_err() && soft < hard {
        // What is too little is said by who needs it.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard);
    }
}
