//! PinTalk schema.
