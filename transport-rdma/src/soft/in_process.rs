//! The software fabric within one process, under a seeded scheduler.
