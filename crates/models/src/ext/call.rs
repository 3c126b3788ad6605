//! Calls of mlx-c: lists of arrays, and error messages in both directions.
//!
//! mlx-c reports an error as a status and hands the message to one handler of the process, which
//! mlx-rs installs and keeps to itself. Functions of this crate that MLX calls back pass through C++
//! as a bare status too. So the handler is wrapped: a failed callback is reported with its own
//! message, and the message of every error is at hand where the status is checked.

use std::any::Any;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::sync::Once;

use mlx_rs::error::Exception;
use mlx_rs::{Array, Device};
use mlx_sys::{mlx_array, mlx_vector_array};

use crate::{Error, Result};

const SUCCESS: c_int = 0;
const FAILURE: c_int = 1;

thread_local! {
    /// Why the callback has failed whose exception is on its way through C++.
    static CALLBACK_ERROR: Cell<Option<String>> = const { Cell::new(None) };
    /// The last message of MLX on this thread.
    static MESSAGE: Cell<Option<String>> = const { Cell::new(None) };
}

unsafe extern "C" {
    /// mlx-rs's error handler: keeps the message for the operation that failed.
    fn default_mlx_error_handler(message: *const c_char, data: *mut c_void);
}

/// Wraps mlx-rs's error handler, once a process.
pub(super) fn handle_errors() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // mlx-rs installs its handler with its first operation, and never again.
        let _ = Device::try_default();
        // SAFETY: the handler takes what MLX passes, and there is no payload.
        unsafe { mlx_sys::mlx_set_error_handler(Some(on_error), null_mut(), None) };
    });
}

unsafe extern "C" fn on_error(message: *const c_char, data: *mut c_void) {
    let own = CALLBACK_ERROR.take().and_then(|text| CString::new(text).ok());
    // SAFETY: MLX passes a string that ends in zero.
    let message = own.unwrap_or_else(|| unsafe { CStr::from_ptr(message) }.to_owned());
    MESSAGE.set(Some(message.to_string_lossy().into_owned()));
    // SAFETY: as above; it copies the string.
    unsafe { default_mlx_error_handler(message.as_ptr(), data) };
}

/// `Err` with MLX's message unless a call succeeded.
pub(super) fn check(status: c_int) -> Result<()> {
    if status == SUCCESS {
        return Ok(());
    }
    let message = MESSAGE.take().unwrap_or_else(|| format!("MLX failed with status {status}"));
    Err(Error::Mlx(Exception::custom(message)))
}

/// The array that `fill` puts into an empty handle.
pub(super) fn filled(fill: impl FnOnce(*mut mlx_array) -> c_int) -> Result<Array> {
    handle_errors();
    // SAFETY: an empty handle is a valid one; a filled one is that of an array, owned by the result.
    unsafe {
        let mut array = mlx_sys::mlx_array_new();
        check(fill(&mut array))?;
        Ok(Array::from_ptr(array))
    }
}

/// Runs a function that MLX calls back, and puts the arrays it returns where MLX expects them. An
/// error or a panic becomes a status, its message that of the call which led here.
pub(super) fn answer(
    place: *mut mlx_vector_array,
    run: impl FnOnce() -> Result<Vec<Array>>,
) -> c_int {
    let message = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(arrays)) => {
            let list = ArrayList::of(&arrays);
            // SAFETY: MLX gives a place for a list, which takes a copy.
            return unsafe { mlx_sys::mlx_vector_array_set(place, list.handle()) };
        }
        Ok(Err(Error::Mlx(exception))) => exception.what().to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic_message(panic.as_ref()),
    };
    CALLBACK_ERROR.set(Some(message));
    FAILURE
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a function called by MLX panicked: {}", text.unwrap_or("no message"))
}

/// A list of arrays as mlx-c passes them.
pub(super) struct ArrayList(mlx_vector_array);

impl ArrayList {
    pub fn of(arrays: &[Array]) -> Self {
        let handles: Vec<mlx_array> = arrays.iter().map(Array::as_ptr).collect();
        // SAFETY: MLX copies the handles, each of which is valid.
        Self(unsafe { mlx_sys::mlx_vector_array_new_data(handles.as_ptr(), handles.len()) })
    }

    /// The arrays that `fill` puts into an empty list.
    pub fn filled(fill: impl FnOnce(*mut mlx_vector_array) -> c_int) -> Result<Vec<Array>> {
        handle_errors();
        // SAFETY: an empty list is a valid one.
        let mut list = Self(unsafe { mlx_sys::mlx_vector_array_new() });
        check(fill(&mut list.0))?;
        // SAFETY: a filled list is valid.
        unsafe { arrays(list.0) }
    }

    /// Valid as long as the list.
    pub fn handle(&self) -> mlx_vector_array {
        self.0
    }
}

impl Drop for ArrayList {
    fn drop(&mut self) {
        // SAFETY: owned, and freed once. Freeing cannot fail in a way that matters.
        let _ = unsafe { mlx_sys::mlx_vector_array_free(self.0) };
    }
}

/// The arrays of a list, each with a handle of its own.
///
/// # Safety
/// The list must be valid.
pub(super) unsafe fn arrays(list: mlx_vector_array) -> Result<Vec<Array>> {
    // SAFETY: the indices are within the list, and each handle is a new one.
    unsafe {
        let array = |index| {
            let mut array = mlx_sys::mlx_array_new();
            check(mlx_sys::mlx_vector_array_get(&mut array, list, index))?;
            Ok(Array::from_ptr(array))
        };
        (0..mlx_sys::mlx_vector_array_size(list)).map(array).collect()
    }
}

/// The error of a function that is given another number of arrays than it takes.
pub(crate) fn wrong_arrays() -> Error {
    Error::Mlx(Exception::custom("a function got another number of arrays than it takes"))
}
