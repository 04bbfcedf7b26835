// Tells the server the zone in which this browser's owner lives, so that times are shown in it.
document.cookie = "zone=" + Intl.DateTimeFormat().resolvedOptions().timeZone + "; path=/; max-age=31536000; SameSite=Lax";
