//! What a session's packets go over: a veth pair that each trial makes, or the
//! two interfaces that `--interfaces` names.

use harness::{
    machine::Root,
    measure::trial::{Trial, TrialError},
    suite::{
        Forecast, NoTarget, ProbeRequest, Refusal, RefusalKind, Session,
        SessionRequest,
    },
};
use serde_json::Value;

use crate::lab::{LabError, Wire, borrowed};

/// Two interfaces that may be lent to trials.
#[derive(Debug)]
struct Named([String; 2]);

impl Session for Named {
    fn target(&self) -> Value {
        Value::from(self.0.to_vec())
    }

    fn label(&self) -> String {
        self.0.join(",")
    }
}

/// Looks whether the named interfaces may be lent. Nothing is done to them
/// before a probe or trial takes them, and nothing has to be undone after it.
///
/// # Errors
/// One is in use, or cannot be moved back by the kernel alone.
pub fn prepare(request: &SessionRequest) -> Result<Box<dyn Session>, Refusal> {
    let Some(names) = &request.interfaces else {
        return Ok(Box::new(NoTarget));
    };
    check(names)?;
    Ok(Box::new(Named(names.clone())))
}

/// What `prepare` would say.
///
/// # Errors
/// As there.
pub fn forecast(request: &SessionRequest) -> Result<Forecast, Refusal> {
    let Some(names) = &request.interfaces else {
        return Ok(Forecast::default());
    };
    check(names)?;
    let touches = names
        .iter()
        .map(|name| format!("{name}, moved into a namespace and back"))
        .collect();
    Ok(Forecast { touches, ..Forecast::default() })
}

fn check(names: &[String; 2]) -> Result<(), Refusal> {
    let root = Root::system();
    names
        .iter()
        .try_for_each(|name| {
            borrowed::check(&root, name)?;
            borrowed::ask(name)
        })
        .map_err(|error: LabError| Refusal {
            what: error.to_string(),
            remedy: error.remedy().to_owned(),
            kind: RefusalKind::Environment,
        })
}

/// As a session's target tells it to a trial.
///
/// # Errors
/// It is no target of this suite.
pub fn of_trial(trial: &Trial) -> Result<Wire, TrialError> {
    trial.target::<Option<[String; 2]>>().map(Wire::of)
}

/// As a session's target tells it to a probe.
pub fn of_probe(request: &ProbeRequest<'_>) -> Wire {
    Wire::of(
        serde_json::from_value(request.target().clone()).unwrap_or_default(),
    )
}
