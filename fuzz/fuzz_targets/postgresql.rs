//! Any bytes as what a server says to a start-up packet, message by message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vipd::wire::postgresql::message;

fuzz_target!(|bytes: &[u8]| {
    let mut left = bytes;
    while let Ok(Some((_, length))) = message(left) {
        assert!(length > 1);
        // What is there is all there: no message is longer than the bytes.
        left = &left[length..];
    }
});
