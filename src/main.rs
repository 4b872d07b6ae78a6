//! PinTalk.
fn main() {}
