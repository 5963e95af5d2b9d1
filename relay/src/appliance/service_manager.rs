//! What the service manager is told and gives: readiness, watchdog, stored descriptors.
