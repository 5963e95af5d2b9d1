//! What the process may still do once it serves: capabilities, Landlock, seccomp, no core dumps, locked keys.
