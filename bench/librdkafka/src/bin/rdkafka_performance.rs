//! librdkafka's own performance program, linked with the librdkafka of this workspace.

#![allow(unsafe_code, reason = "the program is C")]

use std::ffi::{CString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;

// Links librdkafka itself.
use rdkafka_sys as _;

#[link(name = "rdkafka_performance", kind = "static")]
unsafe extern "C" {
    fn rdkafka_performance_main(argc: c_int, argv: *mut *mut c_char) -> c_int;
}

fn main() {
    let arguments: Vec<CString> = std::env::args_os()
        .map(|argument| CString::new(argument.into_vec()).expect("invariant: an argument has no zero byte"))
        .collect();
    let mut argv: Vec<*mut c_char> = arguments.iter().map(|argument| argument.as_ptr().cast_mut()).collect();
    argv.push(std::ptr::null_mut());
    let argc = c_int::try_from(arguments.len()).expect("a handful of arguments");
    // SAFETY: argv is what C's main expects: argc strings and a null, alive until the call returns; it does not write
    // to them.
    let code = unsafe { rdkafka_performance_main(argc, argv.as_mut_ptr()) };
    std::process::exit(code);
}
