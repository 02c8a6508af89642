from .battery_vae import BatteryVAE as BatteryVAE
