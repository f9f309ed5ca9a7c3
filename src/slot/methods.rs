//! The methods that declared and owned slots share, stamped out with their docs for both.

/// Implements the slot methods for a key type with a `place` method. What follows it opens the doc
/// examples: it makes `SLOT`, a slot of `Vec<u32>` whose initialiser gives `[1]`.
macro_rules! methods {
    ($key:ident $(#[doc = $setup:literal])*) => {
        impl<T: Send + 'static> $key<T> {
            /// Calls `f` with the current task's value, which is initialised first if need be.
            ///
            /// The value keeps its address while `f` runs, whatever tasks run on top of this one.
            ///
            /// # Panics
            ///
            /// Panics if [`try_with`](Self::try_with) returns an error, or if the initialiser, the
            /// making of an inherited value, or `f` panics.
            ///
            /// # Examples
            ///
            /// ```
            $(#[doc = $setup])*
            ///
            /// assert_eq!(SLOT.with(|values| values.len()), 1);
            /// ```
            #[inline]
            #[track_caller]
            pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
                match self.place() {
                    Ok(place) => place.with(f),
                    Err(error) => $crate::slot::fail_without(error, f),
                }
            }

            /// Calls `f` with a mutable reference to the current task's value.
            ///
            /// # Panics
            ///
            /// Panics if [`try_with_mut`](Self::try_with_mut) returns an error, or if the
            /// initialiser, the making of an inherited value, or `f` panics.
            ///
            /// # Examples
            ///
            /// ```
            $(#[doc = $setup])*
            ///
            /// SLOT.with_mut(|values| values.push(2));
            /// assert_eq!(SLOT.get(), [1, 2]);
            /// ```
            #[inline]
            #[track_caller]
            pub fn with_mut<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
                match self.place() {
                    Ok(place) => place.with_mut(f),
                    Err(error) => $crate::slot::fail_without(error, f),
                }
            }

            /// Calls `f` as [`with`](Self::with) does, under the name that std's `LocalKey` uses.
            ///
            /// # Panics
            ///
            /// Panics as [`with`](Self::with) does.
            ///
            /// # Examples
            ///
            /// ```
            $(#[doc = $setup])*
            ///
            /// assert_eq!(SLOT.with_borrow(|values| values.len()), 1);
            /// ```
            #[inline]
            #[track_caller]
            pub fn with_borrow<R>(&self, f: impl FnOnce(&T) -> R) -> R {
                self.with(f)
            }

            /// Calls `f` as [`with_mut`](Self::with_mut) does, under the name that std's `LocalKey`
            /// uses.
            ///
            /// # Panics
            ///
            /// Panics as [`with_mut`](Self::with_mut) does.
            ///
            /// # Examples
            ///
            /// ```
            $(#[doc = $setup])*
            ///
            /// SLOT.with_borrow_mut(|values| values.push(2));
            /// assert_eq!(SLOT.get(), [1, 2]);
            /// ```
            #[inline]
            #[track_caller]
            pub fn with_borrow_mut<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
                self.with_mut(f)
            }

            /// Returns a clone of the current task's value, which is initialised first if need be.
            ///
            /// # Panics
            ///
            /// Panics as [`with`](Self::with) does, and if the clone panics.
            ///
            /// # Examples
            ///
            /// ```
            $(#[doc = $setup])*
            ///
            /// assert_eq!(SLOT.get(), [1]);
            /// ```
            #[inline]
            #[track_caller]
            pub fn get(&self) -> T
            where
                T: Clone,
            {
                self.with(T::clone)
            }

            /// Sets the current task's value, without running the initialiser. The old value, if
            /// there is one, is dropped afterwards.
            ///
            /// # Panics
            ///
            /// Panics if [`try_set`](Self::try_set) returns an error, or if the old value's drop
            /// panics.
            ///
            /// # Examples
            ///
            /// ```
            $(#[doc = $setup])*
            ///
            /// SLOT.set(vec![7, 8]);
            /// assert_eq!(SLOT.get(), [7, 8]);
            /// ```
            #[inline]
            #[track_caller]
            pub fn set(&self, value: T) {
                match self.place() {
                    Ok(place) => place.set(value),
                    Err(error) => $crate::slot::fail_with($crate::SetError::new(error, value)),
                }
            }

            /// Replaces the current task's value and returns the old one, for which the initialiser
            /// runs if need be.
            ///
            /// # Panics
            ///
            /// Panics if [`try_replace`](Self::try_replace) returns an error, or if the initialiser
            /// or the making of an inherited value panics.
            ///
            /// # Examples
            ///
            /// ```
            $(#[doc = $setup])*
            ///
            /// assert_eq!(SLOT.replace(vec![]), [1]);
            /// assert_eq!(SLOT.get(), []);
            /// ```
            #[track_caller]
            pub fn replace(&self, value: T) -> T {
                match self.try_replace(value) {
                    Ok(before) => before,
                    Err(refused) => $crate::slot::fail_with(refused),
                }
            }

            /// Takes the current task's value out, if it holds or inherits one. The next access
            /// runs the initialiser.
            ///
            /// # Panics
            ///
            /// Panics if [`try_take`](Self::try_take) returns an error, or if the making of an
            /// inherited value panics.
            ///
            /// # Examples
            ///
            /// ```
            $(#[doc = $setup])*
            ///
            /// assert_eq!(SLOT.take(), None);
            /// SLOT.set(vec![5]);
            /// assert_eq!(SLOT.take(), Some(vec![5]));
            /// assert_eq!(SLOT.get(), [1]);
            /// ```
            #[track_caller]
            pub fn take(&self) -> Option<T> {
                match self.try_take() {
                    Ok(taken) => taken,
                    Err(error) => $crate::slot::fail(error),
                }
            }

            /// Returns whether the current task holds a value, or inherits one that it has not
            /// touched yet. The initialiser does not run.
            ///
            /// Returns `false` when the thread is ending and its slots have been torn down.
            ///
            /// # Examples
            ///
            /// ```
            $(#[doc = $setup])*
            ///
            /// assert!(!SLOT.is_set());
            /// SLOT.with(|_| ());
            /// assert!(SLOT.is_set());
            /// ```
            pub fn is_set(&self) -> bool {
                self.place().is_ok_and(|place| place.is_set())
            }

            /// Binds a value to the slot while `f` runs; then the slot is as it was before.
            ///
            /// A value that is borrowed outside stays borrowed, since the scope has a cell of its
            /// own. What `f` sets or takes is the scope's value, which is dropped with the scope,
            /// even if `f` panics.
            ///
            /// The scope ends when `f` returns. So `SLOT.scope(value, || async { … }).await` binds
            /// the value while the future is made, not while it runs; for that there is
            /// [`TaskLocal::scope_future`](crate::TaskLocal::scope_future).
            ///
            /// # Panics
            ///
            /// Panics if [`try_scope`](Self::try_scope) returns an error, or if `f` or the drop of
            /// the scope's value panics.
            ///
            /// # Examples
            ///
            /// ```
            $(#[doc = $setup])*
            ///
            /// let inside = SLOT.scope(vec![3], || SLOT.get());
            /// assert_eq!((inside, SLOT.is_set()), (vec![3], false));
            /// ```
            #[track_caller]
            pub fn scope<R>(&self, value: T, f: impl FnOnce() -> R) -> R {
                match self.try_scope(value, f) {
                    Ok(result) => result,
                    Err(refused) => $crate::slot::fail_with(refused),
                }
            }

            /// Calls `f` with the value like [`with`](Self::with), or returns an error.
            ///
            /// # Errors
            ///
            /// Returns an error if the value is borrowed by an enclosing `with_mut`, if it is
            /// needed by its own initialiser, or if the thread is ending.
            ///
            /// # Panics
            ///
            /// Panics if the initialiser, the making of an inherited value, or `f` panics.
            ///
            /// # Examples
            ///
            /// ```
            $(#[doc = $setup])*
            ///
            /// assert_eq!(SLOT.try_with(|values| values.len()), Ok(1));
            /// assert!(SLOT.with_mut(|_| SLOT.try_with(|_| ())).is_err());
            /// ```
            #[inline]
            pub fn try_with<R>(&self, f: impl FnOnce(&T) -> R) -> Result<R, $crate::AccessError> {
                self.place()?.try_with(f)
            }

            /// Calls `f` with the value like [`with_mut`](Self::with_mut), or returns an
            /// error.
            ///
            /// # Errors
            ///
            /// Returns an error if the value is borrowed, if it is needed by its own initialiser,
            /// or if the thread is ending.
            ///
            /// # Panics
            ///
            /// Panics if the initialiser, the making of an inherited value, or `f` panics.
            ///
            /// # Examples
            ///
            /// ```
            $(#[doc = $setup])*
            ///
            /// assert!(SLOT.try_with_mut(|values| values.push(2)).is_ok());
            /// assert!(SLOT.with(|_| SLOT.try_with_mut(|_| ())).unwrap_err().is_borrowed());
            /// ```
            #[inline]
            pub fn try_with_mut<R>(
                &self,
                f: impl FnOnce(&mut T) -> R,
            ) -> Result<R, $crate::AccessError> {
                self.place()?.try_with_mut(f)
            }

            /// Returns a clone like [`get`](Self::get), or returns an error.
            ///
            /// # Errors
            ///
            /// Returns an error as [`try_with`](Self::try_with) does.
            ///
            /// # Panics
            ///
            /// Panics if the initialiser, the making of an inherited value, or the clone panics.
            ///
            /// # Examples
            ///
            /// ```
            $(#[doc = $setup])*
            ///
            /// assert_eq!(SLOT.try_get(), Ok(vec![1]));
            /// ```
            #[inline]
            pub fn try_get(&self) -> Result<T, $crate::AccessError>
            where
                T: Clone,
            {
                self.try_with(T::clone)
            }

            /// Sets the value like [`set`](Self::set), or hands it back in an error.
            ///
            /// # Errors
            ///
            /// Returns an error if the value is borrowed, if the initialiser is running, or if the
            /// thread is ending.
            ///
            /// # Panics
            ///
            /// Panics if the old value's drop panics.
            ///
            /// # Examples
            ///
            /// ```
            $(#[doc = $setup])*
            ///
            /// assert!(SLOT.try_set(vec![2]).is_ok());
            /// let refused = SLOT.with(|_| SLOT.try_set(vec![3])).unwrap_err();
            /// assert_eq!(refused.into_inner(), [3]);
            /// ```
            #[inline]
            pub fn try_set(&self, value: T) -> Result<(), $crate::SetError<T>> {
                match self.place() {
                    Ok(place) => place.try_set(value),
                    Err(error) => Err($crate::SetError::new(error, value)),
                }
            }

            /// Exchanges the value like [`replace`](Self::replace), or hands the new one back in an
            /// error.
            ///
            /// # Errors
            ///
            /// Returns an error as [`try_set`](Self::try_set) does.
            ///
            /// # Panics
            ///
            /// Panics if the initialiser or the making of an inherited value panics.
            ///
            /// # Examples
            ///
            /// ```
            $(#[doc = $setup])*
            ///
            /// assert_eq!(SLOT.try_replace(vec![2]), Ok(vec![1]));
            /// ```
            pub fn try_replace(&self, value: T) -> Result<T, $crate::SetError<T>> {
                match self.place() {
                    Ok(place) => place.try_replace(value),
                    Err(error) => Err($crate::SetError::new(error, value)),
                }
            }

            /// Takes the value like [`take`](Self::take), or returns an error.
            ///
            /// # Errors
            ///
            /// Returns an error if the value is borrowed, if the initialiser is running, or if the
            /// thread is ending.
            ///
            /// # Panics
            ///
            /// Panics if the making of an inherited value panics.
            ///
            /// # Examples
            ///
            /// ```
            $(#[doc = $setup])*
            ///
            /// assert_eq!(SLOT.try_take(), Ok(None));
            /// ```
            pub fn try_take(&self) -> Result<Option<T>, $crate::AccessError> {
                self.place()?.try_take()
            }

            /// Binds a value like [`scope`](Self::scope), or hands it back in an error.
            ///
            /// # Errors
            ///
            /// Returns an error if the thread is ending.
            ///
            /// # Panics
            ///
            /// Panics if `f` or the drop of the scope's value panics.
            ///
            /// # Examples
            ///
            /// ```
            $(#[doc = $setup])*
            ///
            /// assert_eq!(SLOT.try_scope(vec![3], || SLOT.get()), Ok(vec![3]));
            /// ```
            pub fn try_scope<R>(
                &self,
                value: T,
                f: impl FnOnce() -> R,
            ) -> Result<R, $crate::SetError<T>> {
                match self.place() {
                    Ok(place) => place.try_scope(value, f),
                    Err(error) => {
                        // The value is handed back, whatever this drop does.
                        let _contained = $crate::panic::catch(|| drop(f));
                        Err($crate::SetError::new(error, value))
                    }
                }
            }
        }
    };
}

pub(super) use methods;
