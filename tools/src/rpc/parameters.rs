//! The parameters of one request, read by name: an error says which, what it is, and what it should be.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::{RpcError, neutral};

/// The parameters of one request: known names only.
pub(super) struct Parameters<'a> {
    /// And where in its parameters, if these are part of others.
    method: String,
    values: Option<&'a Map<String, Value>>,
}

impl<'a> Parameters<'a> {
    pub(super) fn new(
        method: impl Into<String>,
        allowed: &[&str],
        parameters: Option<&'a Value>,
    ) -> Result<Self, RpcError> {
        let method = method.into();
        let values = match parameters {
            None | Some(Value::Null) => None,
            Some(Value::Object(values)) => Some(values),
            Some(_) => return Err(RpcError::parameters(format!("{method} takes an object"))),
        };
        let mut unknown = None;
        for (name, value) in values.into_iter().flatten().filter(|(name, _)| !allowed.contains(&name.as_str())) {
            match neutral::of(&method, name) {
                Some(neutral) if neutral == *value => {}
                Some(neutral) => {
                    let what = "is of SPDK's and asks for what this target does not have";
                    let message = format!("{method}: {name} is {value}, which {what}: give {neutral}, or leave it out");
                    return Err(RpcError::parameters(message));
                }
                None => unknown = Some(name),
            }
        }
        match unknown {
            Some(name) if allowed.is_empty() => {
                Err(RpcError::parameters(format!("{method} takes none, and {name:?} was given")))
            }
            Some(name) => {
                Err(RpcError::parameters(format!("{method} has no {name:?}; it takes {}", allowed.join(", "))))
            }
            None => Ok(Self { method, values }),
        }
    }

    /// How many were given.
    pub(super) fn count(&self) -> usize {
        self.values.map_or(0, Map::len)
    }

    /// Whatever was given.
    pub(super) fn any(&self, name: &str) -> Option<&'a Value> {
        self.values.and_then(|values| values.get(name))
    }

    /// A number of MiB that may have a fraction, in bytes.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    pub(super) fn mebibytes(&self, name: &str) -> Result<Option<u64>, RpcError> {
        const MIB: f64 = 1_048_576.0;
        let Some(value) = self.any(name) else { return Ok(None) };
        if let Some(whole) = value.as_u64().and_then(|mib| mib.checked_mul(1 << 20)) {
            return Ok(Some(whole));
        }
        let bytes = value.as_f64().map(|mib| (mib * MIB).round()).filter(|bytes| (0.0..1e15).contains(bytes));
        let allowed = "a number of MiB, which may have a fraction, up to 2^44";
        bytes.map(|bytes| Some(bytes as u64)).ok_or_else(|| self.refuse(name, value, allowed))
    }

    /// An object that has to be there, with names of its own.
    pub(super) fn object(&self, name: &str, allowed: &[&str]) -> Result<Parameters<'a>, RpcError> {
        let kind = || format!("an object with {}", allowed.join(", "));
        match self.values.and_then(|values| values.get(name)) {
            Some(value @ Value::Object(_)) => Parameters::new(format!("{}: {name}", self.method), allowed, Some(value)),
            Some(value) => Err(self.refuse(name, value, &kind())),
            None => Err(self.missing(name, &kind())),
        }
    }

    /// A list of objects that has to be there, each with these names.
    pub(super) fn objects(&self, name: &str, allowed: &[&str]) -> Result<Vec<Parameters<'a>>, RpcError> {
        let kind = || format!("a list of objects with {}", allowed.join(", "));
        let value = self.values.and_then(|values| values.get(name)).ok_or_else(|| self.missing(name, &kind()))?;
        let items = value.as_array().ok_or_else(|| self.refuse(name, value, &kind()))?;
        let method = |at: usize| format!("{}: {name}[{at}]", self.method);
        items.iter().enumerate().map(|(at, item)| Parameters::new(method(at), allowed, Some(item))).collect()
    }

    /// A list of numbers that has to be there.
    pub(super) fn numbers(&self, name: &str, allowed: &str) -> Result<Vec<u64>, RpcError> {
        let value = self.values.and_then(|values| values.get(name)).ok_or_else(|| self.missing(name, allowed))?;
        let numbers = value.as_array().and_then(|items| items.iter().map(Value::as_u64).collect());
        numbers.ok_or_else(|| self.refuse(name, value, allowed))
    }

    /// A list of strings.
    pub(super) fn strings(&self, name: &str) -> Result<Option<Vec<&'a str>>, RpcError> {
        let Some(value) = self.values.and_then(|values| values.get(name)) else { return Ok(None) };
        let strings = value.as_array().and_then(|items| items.iter().map(Value::as_str).collect());
        strings.map(Some).ok_or_else(|| self.refuse(name, value, "a list of strings"))
    }

    /// An object of strings, by any names.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<(String, String)>>, RpcError> {
        let Some(value) = self.values.and_then(|values| values.get(name)) else { return Ok(None) };
        let pair = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        let texts = value.as_object().and_then(|values| values.iter().map(pair).collect());
        texts.map(Some).ok_or_else(|| self.refuse(name, value, "an object whose values are strings"))
    }

    /// A string that has to be there.
    pub(super) fn needed_string(&self, name: &str, allowed: &str) -> Result<&'a str, RpcError> {
        self.string(name)?.ok_or_else(|| self.missing(name, allowed))
    }

    pub(super) fn string(&self, name: &str) -> Result<Option<&'a str>, RpcError> {
        self.value(name, "a string", Value::as_str)
    }

    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, RpcError> {
        self.value(name, "true or false", Value::as_bool)
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, RpcError> {
        self.value(name, "a number", Value::as_u64)
    }

    /// A whole number within what is allowed.
    pub(super) fn number_in(&self, name: &str, allowed: RangeInclusive<u64>) -> Result<Option<u64>, RpcError> {
        let kind = || format!("a number from {} to {}", allowed.start(), allowed.end());
        match self.values.and_then(|values| values.get(name)) {
            None => Ok(None),
            Some(value) => match value.as_u64().filter(|number| allowed.contains(number)) {
                Some(number) => Ok(Some(number)),
                None => Err(self.refuse(name, value, &kind())),
            },
        }
    }

    /// `name` is not what it should be.
    pub(super) fn refuse(&self, name: &str, value: &Value, allowed: &str) -> RpcError {
        RpcError::parameters(format!("{}: {name} is {value}, and should be {allowed}", self.method))
    }

    /// `name` is needed.
    pub(super) fn missing(&self, name: &str, allowed: &str) -> RpcError {
        RpcError::parameters(format!("{}: {name} is missing, and should be {allowed}", self.method))
    }

    /// What was asked for cannot be done, for a reason that names field and value itself.
    pub(super) fn impossible(&self, why: &str) -> RpcError {
        RpcError::parameters(format!("{}: {why}", self.method))
    }

    /// The same, for a reason that may pass.
    pub(super) fn not_now(&self, why: &str) -> RpcError {
        RpcError::internal(format!("{}: {why}", self.method))
    }

    /// `name` does not go with the others.
    pub(super) fn out_of_place(&self, name: &str, why: &str) -> RpcError {
        RpcError::parameters(format!("{}: {name} {why}", self.method))
    }

    fn value<T>(&self, name: &str, kind: &str, read: fn(&'a Value) -> Option<T>) -> Result<Option<T>, RpcError> {
        let Some(value) = self.values.and_then(|values| values.get(name)) else {
            return Ok(None);
        };
        read(value).map(Some).ok_or_else(|| self.refuse(name, value, kind))
    }
}
