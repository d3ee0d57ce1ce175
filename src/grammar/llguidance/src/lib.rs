// The library is llguidance's own C interface; naming it here links it.
pub use llguidance::ffi;
