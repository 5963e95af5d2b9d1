//! `pilot-relay` and the one after it, with a service manager that keeps what the first has left.

mod succession {
    mod supervisor;

    mod drain;
    mod restart;
    mod upgrade;
}
