//! Functions of templates: what they take, what they give, what they may spend.
//!
//! The evaluator checks a call against the [`Signature`] and converts arguments as Go does
//! (constants to the type of the parameter, untyped nil to the nil of the type; an `int64` is not
//! taken for an `int`), so that a function gets what it declared: exactly as many arguments (at
//! least as many as it has fixed ones, if variadic), each of its type. A parameter of [`Type::Any`]
//! takes every value, untyped nil as [`Value::Nil`].

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::types::Type;
use super::value::Value;

/// What a function takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// Types of the parameters; of a variadic function the last one is that of each further
    /// argument, of which there may be none.
    pub params: &'static [Type],
    /// Whether the last parameter may be given any number of times.
    pub variadic: bool,
    /// The type of the result.
    pub result: Type,
    /// Whether it may fail in Go, too (has an `error` as second result). Only `%T` shows it.
    pub fails: bool,
}

impl Signature {
    /// Takes exactly `params`.
    #[must_use]
    pub const fn new(params: &'static [Type], result: Type) -> Self {
        Self { params, variadic: false, result, fails: true }
    }

    /// Takes `params`, the last of them any number of times.
    #[must_use]
    pub const fn variadic(params: &'static [Type], result: Type) -> Self {
        Self { params, variadic: true, result, fails: true }
    }
}

/// The code of a function.
pub type Code = dyn Fn(&mut Context<'_>, &[Value]) -> Result<Value, FunctionError> + Send + Sync;

/// A function that templates can call.
pub struct Function {
    signature: Signature,
    /// Go's spelling of its type.
    spelling: &'static str,
    code: Box<Code>,
}

impl Function {
    /// A function; `args` of `code` fit `signature`.
    pub fn new(
        signature: Signature,
        code: impl Fn(&mut Context<'_>, &[Value]) -> Result<Value, FunctionError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { signature, spelling: "func()", code: Box::new(code) }
    }

    /// The same with Go's spelling of its type, which `%T` prints and messages name.
    #[must_use]
    pub fn spelled(self, spelling: &'static str) -> Self {
        Self { spelling, ..self }
    }

    /// What it takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// [`Type::Func`].
    pub fn type_of(&self) -> Type {
        Type::Func(self.spelling)
    }

    /// Calls it with arguments that fit its signature.
    ///
    /// # Errors
    /// What the function says.
    pub fn call(&self, context: &mut Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
        (self.code)(context, args)
    }
}

/// Functions by name. A template keeps those that it names; cloning shares all of them.
#[derive(Clone, Default)]
pub struct Functions(HashMap<&'static str, Arc<Function>>);

impl Functions {
    /// None at all; the built-in ones are always there.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a function; one of the same name, also a built-in one, is replaced.
    pub fn add(
        &mut self,
        name: &'static str,
        signature: Signature,
        code: impl Fn(&mut Context<'_>, &[Value]) -> Result<Value, FunctionError>
        + Send
        + Sync
        + 'static,
    ) {
        self.insert(name, Function::new(signature, code));
    }

    /// Adds `function` under `name`, as [`Functions::add`] does.
    pub fn insert(&mut self, name: &'static str, function: Function) {
        self.0.insert(name, Arc::new(function));
    }

    /// Removes what is called `name`.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// The function called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Function>> {
        self.0.get(name)
    }

    /// All names, in no order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.keys().copied()
    }
}

/// Why a function gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FunctionError {
    /// It returned an error: `error calling NAME: …`.
    #[error("{message}")]
    Failed {
        /// Go's words.
        message: String,
        /// Our own: what to write instead. Shown apart from Go's words.
        hint: Option<String>,
    },
    /// A limit was reached; ends the evaluation wherever it happens.
    #[error(transparent)]
    Limit(#[from] Limit),
}

impl FunctionError {
    /// An error in Go's words, without `error calling NAME:`.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), hint: None }
    }

    /// The same with our own words on what to write instead.
    pub fn hinted(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), hint: Some(hint.into()) }
    }
}

/// How far an evaluation may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most steps: nodes evaluated, elements ranged over, and what functions [`Context::spend`].
    pub steps_max: u64,
    /// Most templates inside each other (`template`, `executeTemplate`).
    pub depth_max: u32,
    /// Largest output in bytes. Also bounds what one function may build.
    pub output_max: u64,
    /// When to give up. Looked at every few thousand steps.
    pub deadline: Option<Instant>,
}

impl Default for Limits {
    /// Ten million steps, 200 templates deep (stacks of 2 MB bear it), 64 MiB, no deadline.
    fn default() -> Self {
        Self { steps_max: 10_000_000, depth_max: 200, output_max: 64 << 20, deadline: None }
    }
}

/// The limit that ended an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// [`Limits::steps_max`]
    #[error("the template takes more than {0} steps")]
    Steps(u64),
    /// [`Limits::depth_max`]
    #[error("exceeded maximum template depth ({0})")]
    Depth(u32),
    /// [`Limits::output_max`]
    #[error("the output is larger than {0} bytes")]
    Output(u64),
    /// [`Limits::deadline`]
    #[error("the template ran out of time")]
    Time,
}

/// What is left of [`Limits`].
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    steps_left: u64,
    /// Steps after which the clock is looked at again.
    clock_in: u32,
}

/// Steps between two looks at the clock.
const CLOCK_STEPS: u32 = 2048;

impl Budget {
    /// All of `limits`.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits, steps_left: limits.steps_max, clock_in: CLOCK_STEPS }
    }

    /// The limits it began with.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Steps taken so far.
    #[must_use]
    pub const fn spent(&self) -> u64 {
        self.limits.steps_max - self.steps_left
    }

    /// Takes `steps` steps.
    ///
    /// # Errors
    /// [`Limit::Steps`] or [`Limit::Time`].
    #[inline]
    pub fn spend(&mut self, steps: u64) -> Result<(), Limit> {
        let Some(left) = self.steps_left.checked_sub(steps) else {
            self.steps_left = 0;
            return Err(Limit::Steps(self.limits.steps_max));
        };
        self.steps_left = left;
        match u32::try_from(steps).ok().and_then(|steps| self.clock_in.checked_sub(steps)) {
            Some(left) => self.clock_in = left,
            None => return self.look_at_the_clock(),
        }
        Ok(())
    }

    #[cold]
    fn look_at_the_clock(&mut self) -> Result<(), Limit> {
        self.clock_in = CLOCK_STEPS;
        match self.limits.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Limit::Time),
            _ => Ok(()),
        }
    }
}

/// What a function can do besides computing: spend, ask its host, run another template.
pub struct Context<'a> {
    budget: &'a mut Budget,
    host: &'a dyn Any,
    runner: Option<&'a mut dyn Runner>,
}

/// Runs templates for functions; the evaluator is one.
pub trait Runner {
    /// The output of the template `name` with `data` as its dot.
    ///
    /// # Errors
    /// As the function that asked for it should say: no such template, or why it failed.
    fn run(
        &mut self,
        budget: &mut Budget,
        host: &dyn Any,
        name: &str,
        data: Value,
    ) -> Result<Vec<u8>, FunctionError>;
}

impl<'a> Context<'a> {
    /// For an evaluation; `host` is whatever the functions of a dialect know their state by.
    pub fn new(
        budget: &'a mut Budget,
        host: &'a dyn Any,
        runner: Option<&'a mut dyn Runner>,
    ) -> Self {
        Self { budget, host, runner }
    }

    /// What the evaluation was started with, for functions that keep state (`scratch`) or ask the
    /// catalog; `None` when it is of another type.
    #[must_use]
    pub fn host<T: 'static>(&self) -> Option<&'a T> {
        self.host.downcast_ref()
    }

    /// Takes `steps` steps: a function whose work grows with its input takes one for every element
    /// or every hundred bytes.
    ///
    /// # Errors
    /// [`FunctionError::Limit`]
    pub fn spend(&mut self, steps: u64) -> Result<(), FunctionError> {
        Ok(self.budget.spend(steps)?)
    }

    /// To be asked before building `bytes` bytes: takes a step for every hundred of them.
    ///
    /// # Errors
    /// [`FunctionError::Limit`], also when they are more than the output may have.
    pub fn build(&mut self, bytes: usize) -> Result<(), FunctionError> {
        let max = self.budget.limits.output_max;
        if bytes as u64 > max {
            return Err(Limit::Output(max).into());
        }
        self.spend(bytes as u64 / 100)
    }

    /// The output of the template `name` with `data` as its dot (`executeTemplate`, `include`).
    ///
    /// # Errors
    /// No such template, or why it failed.
    pub fn execute_template(&mut self, name: &str, data: Value) -> Result<Vec<u8>, FunctionError> {
        match &mut self.runner {
            Some(runner) => runner.run(self.budget, self.host, name, data),
            None => Err(FunctionError::failed("templates cannot be executed here")),
        }
    }
}
