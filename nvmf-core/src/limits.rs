//! The limit of everything in this layer, and how they relate.
