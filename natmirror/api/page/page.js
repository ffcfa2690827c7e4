// The status page: asks the natmirror that has served it, and shows the answers. It changes nothing.

import { showCharts } from "./charts.js";
import { byId, setText } from "./dom.js";
import { showAge, showHealth } from "./health.js";
import { Live } from "./live.js";
import { showBackends, showEvents, showHost, showLedger, showMirrors } from "./tables.js";
import { watchTheme } from "./theme.js";
import { showTopology, watchWidth } from "./topology.js";
import { showVerdicts } from "./verdicts.js";

const RELOAD_INTERVAL = 60_000; // milliseconds: two hosts of different versions behind one address end in no loop
const RELOADED_AT = "natmirror-reloaded-at";

let version = null;

// Another natmirror than the one that served this page may give other answers: its own page knows them.
function followVersion(status) {
  version ??= status.version;
  if (status.version === version || Date.now() - Number(sessionStorage.getItem(RELOADED_AT)) < RELOAD_INTERVAL) return;
  sessionStorage.setItem(RELOADED_AT, String(Date.now()));
  location.reload();
}

function showStatus(status) {
  followVersion(status);
  for (const show of [showHealth, showHost, showTopology, showCharts, showBackends, showMirrors, showLedger]) show(status);
}

setText(byId("host"), location.host);
watchTheme();
watchWidth();
new Live({ status: showStatus, events: showEvents, verdicts: showVerdicts, age: showAge });
