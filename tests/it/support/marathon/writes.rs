//! What Marathon is told to do over HTTP: apps that come, are scaled and go, tasks that are killed. It
//! only notes what is wanted; whoever plays the agents does it.

use serde_json::{Value, json};

use super::era::time;
use super::events::Said;
use super::http::{Answer, Asked};
use super::world::{App, Net, State, World};

/// Does what is asked for, with the answer and all that is told of it.
pub(super) fn done(world: &mut World, asked: &Asked) -> (Answer, Vec<Said>) {
    let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
    let force = asked.parameters("force").any(|value| value == "true");
    let id = asked.path.strip_prefix("/v2/apps/").map(|id| format!("/{}", id.trim_matches('/')));
    let done = match (&*asked.method, &*asked.path, id) {
        ("POST", "/v2/apps", _) => create(world, &body),
        ("POST", "/v2/tasks/delete", _) => {
            kill(world, &body, asked.parameters("scale").any(|value| value == "true"), force)
        }
        ("PUT", _, Some(id)) => free(world, &id, force).and_then(|()| scale(world, &id, &body)),
        ("DELETE", _, Some(id)) => free(world, &id, force).map(|()| delete(world, &id)),
        _ => Err((405, "HTTP 405 Method Not Allowed".into())),
    };
    done.unwrap_or_else(|(status, message)| {
        (Answer::new(status, json!({ "message": message }).to_string()), Vec::new())
    })
}

type Done = Result<(Answer, Vec<Said>), (u16, String)>;

/// Whether the app is there and no deployment locks it.
fn free(world: &World, id: &str, force: bool) -> Result<(), (u16, String)> {
    let Some(app) = world.apps.get(id).filter(|app| !app.deleted) else {
        return Err((404, format!("App '{id}' does not exist")));
    };
    if app.deployment.is_some() && !force {
        return Err((409, format!("App is locked by one or more deployments: {id}")));
    }
    Ok(())
}

/// `POST /v2/apps`.
fn create(world: &mut World, body: &Value) -> Done {
    let Some(id) = body["id"].as_str().filter(|id| id.starts_with('/')) else {
        return Err((422, "Object is not valid: /id".into()));
    };
    if world.apps.contains_key(id) {
        return Err((409, format!("An app with id [{id}] already exists.")));
    }
    let mut app = App::new(Net::Host);
    app.checks = body["healthChecks"].as_array().is_some_and(|checks| !checks.is_empty());
    app.instances = Some(number(&body["instances"]).unwrap_or(1));
    let ports = body["portDefinitions"].as_array().into_iter().flatten();
    app.service_ports =
        ports.filter_map(|port| number(&port["port"]).and_then(|n| n.try_into().ok())).collect();
    for (key, value) in body["labels"].as_object().into_iter().flatten() {
        let text = value.as_str().ok_or_else(|| (422, format!("label {key} is no text")))?;
        app.labels.insert(key.clone(), text.to_owned());
    }
    let mut said = world.post(id, app);
    said.extend(world.deploy(id));
    Ok((Answer::new(201, body.to_string()), said))
}

/// `PUT /v2/apps/ID` with another number of instances. Where it is the same nothing happens.
fn scale(world: &mut World, id: &str, body: &Value) -> Done {
    let Some(wanted) = number(&body["instances"]) else {
        return Err((422, "only `instances` can be changed here".into()));
    };
    let app = world.app(id);
    let same = app.instances.replace(wanted) == Some(wanted);
    let said = if same { Vec::new() } else { world.deploy(id) };
    Ok((deployed(world, id), said))
}

/// `DELETE /v2/apps/ID`.
fn delete(world: &mut World, id: &str) -> (Answer, Vec<Said>) {
    let app = world.app(id);
    (app.deleted, app.instances) = (true, Some(0));
    let tasks: Vec<String> = app.tasks.keys().cloned().collect();
    let mut said = world.deploy(id);
    for own in tasks {
        said.extend(world.becomes(id, &own, State::Killing));
    }
    (deployed(world, id), said)
}

/// `POST /v2/tasks/delete`: with `scale` nobody takes the place of those that are killed. Ids that
/// nobody has are no error.
fn kill(world: &mut World, body: &Value, scale: bool, force: bool) -> Done {
    let wanted: Vec<&str> =
        body["ids"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let era = world.era;
    let of = |(id, app): (&String, &App)| {
        let hit = |own: &&String| wanted.contains(&&*era.task_id(id, own));
        let tasks: Vec<String> = app.tasks.keys().filter(hit).cloned().collect();
        (!tasks.is_empty()).then(|| (id.clone(), tasks))
    };
    let doomed: Vec<(String, Vec<String>)> = world.apps.iter().filter_map(of).collect();
    let (mut said, mut count) = (Vec::new(), 0);
    for (id, tasks) in doomed {
        free(world, &id, force)?;
        if scale {
            let app = world.app(&id);
            let before = app.instances.unwrap_or(app.tasks.len());
            app.instances = Some(before.saturating_sub(tasks.len()));
            said.extend(world.deploy(&id));
        }
        for own in tasks {
            count += 1;
            said.extend(world.becomes(&id, &own, State::Killing));
        }
    }
    Ok((Answer::new(200, json!({"version": time(1), "killed": count}).to_string()), said))
}

fn deployed(world: &World, id: &str) -> Answer {
    let app = &world.apps[id];
    let told = json!({"version": time(app.version), "deploymentId": app.deployment});
    Answer::new(200, told.to_string())
}

fn number(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}
