// How it looks: light and dark, on a desk and on a phone; each view fits, and axe-core finds nothing, contrast included.
import { STEP_MS, Visitor } from './browser.mjs';

const SCREENS = { desk: { viewport: { width: 1280, height: 900 } }, phone: { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 } };

// The narrowest that there is, which is also a wide one at 400 per cent (WCAG 1.4.10).
async function fitsNarrow(visitor, view) {
  const { viewport } = SCREENS.phone;
  await visitor.page.setViewportSize({ ...viewport, width: 320 });
  await visitor.fits(`${view} (narrow)`);
  await visitor.page.setViewportSize(viewport);
}

export async function looks({ browser, link, shots }) {
  let seen = 0;
  for (const [screen, options] of Object.entries(SCREENS)) {
    for (const colorScheme of ['light', 'dark']) {
      const visitor = await Visitor.come(browser, link.url, shots, { ...options, colorScheme, reducedMotion: 'reduce' });
      const { page } = visitor;
      const look = async (view) => {
        await visitor.fits(`${view} (${screen})`);
        if (screen === 'phone') await fitsNarrow(visitor, view);
        await visitor.isAccessible(`${view} (${screen}, ${colorScheme})`);
        await visitor.shoot(`${view}-${screen}-${colorScheme}`);
        seen += 1;
      };
      await visitor.pay('pm_card_visa_chargeDeclined');
      await visitor.hasSteps('PaymentInProgress', 'PaymentFailed');
      await look('checkout');
      await page.locator('#follow-link').click();
      await page.locator('#timeline li').nth(1).waitFor({ timeout: STEP_MS });
      await look('payment');
      await visitor.see('Operations');
      await page.locator('#reading').filter({ hasText: 'live' }).waitFor({ timeout: STEP_MS });
      await page.locator('#version-rows tr').nth(1).waitFor({ timeout: STEP_MS });
      await page.locator('.plot canvas').nth(3).waitFor({ timeout: STEP_MS });
      // There is a rate once there are two readings.
      await page.locator('#tiles dd').first().filter({ hasText: /\d/ }).waitFor({ timeout: STEP_MS });
      await look('operations');
      await visitor.see('Key');
      await look('key');
      await visitor.leave();
    }
  }
  return `${seen} views fit their screens, and axe-core finds nothing in them`;
}
